"""Answers that no inference endpoint should give, and jobs that ask for them: what became of each, in one line of JSON.

    python tests/robustness/hostile_answers.py [--only NAME] FOLDER

A server of raw sockets misbehaves from its first answer on, or from its second. Waits and times are shortened; sizes are
not, and a job may take three gigabytes of memory more than it has when it begins.
"""

import argparse
import base64
import contextlib
import gzip
import io
import json
import os
import re
import resource
import socket
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TOKEN = "hf_SecretTokenOfTheUser12345+/=x"
GOOD = [1.0, 2.0, 3.0]
RECORDS = {"a": "ACGTACGT", "b": "GGGTTTAC", "c": "ACGTTTTT"}
MEMORY = 3 << 30  # bytes, beside what a process has that has imported everything
LONGEST = 30.0  # seconds of one job

Send = Callable[[bytes], None]
Behaviour = bytes | Callable[[Send], None]


def response(body: bytes, status: str = "200 OK", *headers: str, length: bool = True) -> bytes:
    """Return a response as a usual server would send it, with further headers."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", *headers, "Connection: close"]
    lines += [f"Content-Length: {len(body)}"] if length else []
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def error(said: object, status: str = "400 Bad Request") -> bytes:
    """Return an error in the hub's manner."""
    return response(json.dumps({"error": said}).encode(), status)


def compressed(body: bytes, encoding: str = "gzip") -> bytes:
    """Return a response whose body is said to be compressed."""
    return response(body, "200 OK", f"Content-Encoding: {encoding}")


def forever(start: bytes, piece: bytes, pause: float = 0.0) -> Callable[[Send], None]:
    """Return what sends pieces without an end, with pauses between them."""

    def send_all(send: Send) -> None:
        send(start)
        while True:
            time.sleep(pause)
            send(piece)

    return send_all


def silent(start: bytes) -> Callable[[Send], None]:
    """Return what sends a beginning, and then nothing."""

    def send_start(send: Send) -> None:
        send(start)
        time.sleep(60)

    return send_start


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BAD = b"HTTP/1.1 400 Bad\r\nContent-Type: application/json\r\n"
PIECE = b"1.5," * (1 << 16)
BOMB = gzip.compress(b"[" + b"1," * (1 << 26))  # 128 MiB
ECHOES = {
    "plain": f"bad token Bearer {TOKEN}",
    "list": ["a", f"Bearer {TOKEN}"],
    "object": {"message": TOKEN},
    "base64": base64.b64encode(TOKEN.encode()).decode(),
    "base64 of Bearer": base64.b64encode(f"Bearer {TOKEN}".encode()).decode(),
    "blanks": " ".join(TOKEN),
    "upper case": TOKEN.upper(),
    "reversed": TOKEN[::-1],
    "hex": TOKEN.encode().hex(),
    "zero width": "\u200b".join(TOKEN),
    "line end": f"{TOKEN[:15]}\n{TOKEN[15:]}",
    "percent": "".join(f"%{ord(x):02x}" for x in TOKEN),
}
STATUSES = "201 X|202 X|203 X|204 X|205 X|206 X|226 X|300 X|304 X|400 X|401 X|402 X|403 X|404 X|405 X|406 X"
STATUSES += (
    "|407 X|408 X|409 X|410 X|413 X|414 X|418 X|422 X|424 X|429 X|451 X|500 X|501 X|502 X|503 X|504 X|511 X|599 X|999 X"
)
BODIES = {
    "no JSON": b"{",
    "empty": b"",
    "blank": b" ",
    "null": b"null",
    "true": b"true",
    "number": b"5",
    "text": b'"vector"',
    "object": b"{}",
    "no numbers": b"[]",
    "empty vector": b"[[]]",
    "objects": b'[{"embedding":[1,2,3]}]',
    "OpenAI's": b'{"data":[{"embedding":[1,2,3]}]}',
    "ragged": b"[[1,2],[3]]",
    "vector and number": b"[[1,2],3]",
    "nulls": b"[[null,1,2]]",
    "NaN": b"[[NaN,1,2]]",
    "Infinity": b"[[Infinity,1,2]]",
    "-Infinity": b"[[-Infinity,1,2]]",
    "1e39": b"[[1e39,1,2]]",
    "1e400": b"[[1e400,1,2]]",
    "6000 digits": b"[[" + b"9" * 6_000 + b",1,2]]",
    "400 digits": b"[[" + b"9" * 400 + b",1,2]]",
    "letters": b'[["a","b","c"]]',
    "long texts": json.dumps([["x" * 1_000_000] * 3]).encode(),
    "too many vectors": json.dumps([GOOD] * 7 + [[1.0]]).encode(),
    "four dimensions of brackets": json.dumps([[[GOOD, GOOD], [GOOD, GOOD]]]).encode(),
    "70 brackets": b"[" * 70 + b"1" + b"]" * 70,
    "million brackets": b"[" * 1_000_000 + b"]" * 1_000_000,
    "million lists": b"[" + b"[]," * 1_000_000 + b"[]]",
    "million objects": b"[" + b"{}," * 1_000_000 + b"{}]",
    "deep objects": b'{"a":' * 100_000,
    "wide": b"[[" + b"0.5," * 10_000_000 + b"0.5]]",
    "many small numbers": b"[" + b"0," * 20_000_000 + b"0]",
    "no UTF-8": b"[[1,\xff]]",
    "UTF-16": "[[1,2,3]]".encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf[[1,2,3]]",
    "NUL": b"\0" * 100,
    "two documents": b"[[1,2,3]] [[1,2,3]]",
    "trailing comma": b"[[1,2,3,]]",
    "comment": b"[[1,2,3]] // x",
    "hexadecimal": b"[[0x1,2,3]]",
    "half a surrogate": b'{"error":"\\ud800"}',
    "web page": b"<html>" + TOKEN.encode() + b"</html>",
    "equal keys": b'{"error":1,"error":2}',
}
PROTOCOL: dict[str, Behaviour] = {
    "closes at once": b"",
    "closes in the status": b"HTTP/1.1 20",
    "closes in the headers": HEAD,
    "closes in the body": response(b"[[1,2", "200 OK", "Content-Length: 500", length=False),
    "HTTP 0.9": b"[[1,2,3]]",
    "not HTTP": b"SSH-2.0-OpenSSH_9.9\r\n",
    "TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "HTTP 9.9": b"HTTP/9.9 200 OK\r\nContent-Length: 9\r\n\r\n[[1,2,3]]",
    "status without a number": b"HTTP/1.1 OK\r\n\r\n",
    "negative status": b"HTTP/1.1 -200 OK\r\n\r\n",
    "negative length": response(b"[[1,2,3]]", "200 OK", "Content-Length: -5", length=False),
    "two lengths": response(b"[[1,2,3]]", "200 OK", "Content-Length: 3"),
    "length of 1e30": response(b"[[1,2,3]]", "200 OK", f"Content-Length: {10**30}", length=False),
    "length and chunks": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n[[1,2,3]]\r\n0\r\n\r\n",
    "chunk of all bytes": HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n[[1]]",
    "chunk without a size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\n[[1]]",
    "chunks without an end": HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\n[[1,2,3]]\r\n",
    "unknown transfer": HEAD + b"Transfer-Encoding: cheese\r\n\r\n[[1,2,3]]",
    "200,000 headers": b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(200_000)) + b"\r\n",
    "header of 10 MB": b"HTTP/1.1 200 OK\r\nx: " + b"y" * 10_000_000 + b"\r\n\r\n[[1,2,3]]",
    "header with NUL": b"HTTP/1.1 200 OK\r\nx: a\0b\r\nContent-Length: 9\r\n\r\n[[1,2,3]]",
    "folded header": b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\nContent-Length: 9\r\n\r\n[[1,2,3]]",
    "two answers": response(b"[[1,2,3]]") * 2,
    "101": response(b"", "101 Switching Protocols"),
    "many 100": b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000 + response(b"[[1,2,3]]"),
    "100 for ever": forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0.01),
    "headers for ever": forever(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n", 0.1),
    "blanks for ever": forever(HEAD + b"\r\n", b" ", 0.1),
    "numbers for ever": forever(HEAD + b"\r\n[[", PIECE),
    "chunks for ever": forever(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%s\r\n" % (len(PIECE), PIECE)),
    "error for ever": forever(BAD + b'\r\n{"error":"', b"x" * (1 << 20)),
    "slow error": forever(BAD + b"\r\n", b" ", 0.1),
    "silent": silent(b""),
    "silent after headers": silent(HEAD + b"\r\n"),
    "silent error": silent(BAD + b"Content-Length: 5\r\n\r\n"),
    "bombs for ever": forever(HEAD + b"Content-Encoding: gzip\r\n\r\n", BOMB),
    "bomb": compressed(gzip.compress(b" " * (1 << 29))),
    "bomb in a bomb": compressed(gzip.compress(BOMB), "gzip, gzip"),
    "compressed as nothing": compressed(b"", "gzip"),
    "damaged gzip": compressed(b"\0\1\2"),
    "cut gzip": compressed(gzip.compress(b"[[1,2,3]]" * 100)[:30]),
    "damaged deflate": compressed(b"\0\1\2", "deflate"),
    "unknown compression": compressed(b"\0\1\2", "br"),
    "deflate of nothing": compressed(zlib.compress(b""), "deflate"),
}
HEADERS = {
    "Retry-After: nan": "503 X",
    "Retry-After: -1": "503 X",
    "Retry-After: 999999999": "503 X",
    "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\nDate: Fri, 31 Dec 1999 23:59:59 GMT": "503 X",
    "Retry-After: Fri, 99 Foo": "429 X",
    f"Retry-After: {'9' * 5_000}": "429 X",
    "ratelimit: ;r=0;t=999999999": "429 X",
    "X-Error-Code: RepoNotFound": "404 X",
    "X-Error-Code: GatedRepo": "500 X",
    f"X-Error-Message: {TOKEN}": "400 X",
    f"X-Request-Id: {TOKEN}": "500 X",
    "WWW-Authenticate: Bearer": "401 X",
    "Location: ": "302 X",
    "Location: /": "302 X",
    "Location: file:///etc/passwd": "302 X",
    "Location: http://169.254.169.254/latest/meta-data": "307 X",
    "Location: http://[": "308 X",
    "Location: //127.0.0.1:1/x": "301 X",
    "Refresh: 0; url=http://127.0.0.1:1/": "303 X",
    "Set-Cookie: a=b": "500 X",
    "Content-Type: text/html; charset=nonsense": "400 X",
    "Content-Range: bytes 0-1/2": "416 X",
}


def behaviours() -> dict[str, Behaviour]:
    """Return all of them by their names."""
    found: dict[str, Behaviour] = {f"status {status}": response(b"{}", status) for status in STATUSES.split("|")}
    found |= {f"body: {name}": response(body) for name, body in BODIES.items()}
    found |= {
        f"error body: {name}": response(BODIES[name], "503 X") for name in ("no JSON", "null", "number", "no numbers")
    }
    found |= {
        f"error body: {name}": response(BODIES[name], "401 X") for name in ("deep objects", "no UTF-8", "million lists")
    }
    found |= {
        f"estimated time {value}": response(b'{"estimated_time":%s}' % value.encode(), "503 X") for value in WAITS
    }
    found |= {f"echo: {name}": error(said) for name, said in ECHOES.items()}
    found |= {f"echo of {status}": error(TOKEN, f"{status} X") for status in (401, 404, 422, 500)}
    found |= {f"protocol: {name}": behaviour for name, behaviour in PROTOCOL.items()}
    return found | {f"header: {header[:50]}": response(b"{}", status, header) for header, status in HEADERS.items()}


WAITS = ("1e8", "-1", "true", "NaN", "null", '"long"', "[]", "9" * 400)


@contextlib.contextmanager
def serving(hostile: Behaviour, after: int) -> Iterator[str]:
    """Run a server that gives so many good answers before the hostile ones; yield its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    requests, lock, connections = [0], threading.Lock(), set[socket.socket]()

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connections.add(connection)
            connection.settimeout(60)
            request = b""
            while b"\r\n\r\n" not in request:
                request += _received(connection)
            head, _, body = request.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            while len(body) < int(length[1] if length else 0):
                body += _received(connection)
            with lock:
                requests[0] += 1
                is_good = requests[0] <= after
            if is_good:
                asked = json.loads(body)["inputs"]
                connection.sendall(
                    response(json.dumps([GOOD] * (1 if isinstance(asked, str) else len(asked))).encode())
                )
            elif isinstance(hostile, bytes):
                connection.sendall(hostile)
            else:
                hostile(connection.sendall)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        listener.close()
        for connection in list(connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _received(connection: socket.socket) -> bytes:
    received = connection.recv(1 << 16)
    if not received:
        raise ConnectionResetError
    return received


def job(url: str, folder: Path) -> dict[str, Any]:
    """Embed three sequences; return the exit code, what was said and which files there are."""
    import dnalm_remote_embed
    from dnalm.entry_point import run

    folder.mkdir()
    (folder / "in.fa").write_text("".join(f">{name}\n{bases}\n" for name, bases in RECORDS.items()))
    outputs = [part for name in ("output", "summary", "failed") for part in (f"--{name}", str(folder / name))]
    arguments = ["--sequences", str(folder / "in.fa"), "--endpoint", url, "--consent", *outputs]
    os.environ["HF_TOKEN"] = TOKEN
    out, err, began = io.StringIO(), io.StringIO(), time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: object = run(dnalm_remote_embed.parser(), dnalm_remote_embed.main, arguments, network=True)
        except BaseException as error:  # what the entry point lets through
            code = repr(error)
    files = sorted(path.name for path in folder.iterdir() if path.name != "in.fa")
    seconds = time.monotonic() - began
    return {"code": code, "out": out.getvalue(), "err": err.getvalue(), "files": files, "seconds": seconds}


def verdict(found: dict[str, Any], folder: Path) -> str:
    """Return what is wrong with the end of a job; '' for an end that is allowed."""
    said = found["out"] + found["err"]
    written = b"".join((folder / name).read_bytes() for name in found["files"]).decode("latin-1")
    for name, form in ECHOES.items():
        if isinstance(form, str) and form in said + written:
            return f"the token is told ({name})"
    if found["seconds"] > LONGEST:
        return f"it took {found['seconds']:.0f} s"
    if found["code"] == 1:
        one = (
            found["err"].count("\n") == 1
            and found["err"].startswith("dnalm_remote_embed: ")
            and found["err"].endswith(".\n")
        )
        return (
            ""
            if one and not found["files"]
            else f"no single sentence, or files left: {found['err']!r} {found['files']}"
        )
    if found["code"] != 0 or found["err"]:
        return f"exit code {found['code']}, {found['err']!r}"
    return _accounted(folder)


def _accounted(folder: Path) -> str:
    import anndata
    import pandas as pd

    embedded = anndata.read_h5ad(folder / "output")
    failed = pd.read_csv(folder / "failed", sep="\t")
    summary = pd.read_csv(folder / "summary", sep="\t")
    if sorted([*embedded.obs_names, *failed["id"]]) != sorted(RECORDS) or summary["id"].tolist() != list(RECORDS):
        return "records are missing"
    lost = set(summary.loc[summary["status"] != "ok", "id"])
    if lost != set(failed["id"]) or failed["reason"].isna().any():
        return "failed records are not accounted for"
    return "" if all(row.tolist() == GOOD for row in embedded.X) else f"wrong vectors: {embedded.X.tolist()}"


def main() -> None:
    """Run all, or those whose name has a text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="a behaviour by its name")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    import huggingface_hub
    from dnalm.engine import asking
    from dnalm.models import bounded_http, served

    huggingface_hub.constants.HF_HUB_OFFLINE = False
    asking.ATTEMPTS, asking.FIRST_WAIT, asking.FAILURES_IN_A_ROW = 2, 0.001, 2
    served.ANSWER_WITHIN, served.WHOLE_ANSWER_WITHIN, bounded_http.ERROR_SECONDS = 1.0, 2.0, 0.5
    chosen = behaviours()
    if arguments.only:
        chosen = {name: chosen[name] for name in arguments.only}
    with serving(b"", 9) as url:  # so that everything is imported
        assert job(url, arguments.folder / "good")["code"] == 0
    for number, (name, hostile) in enumerate(chosen.items()):
        process = os.fork()  # whose memory and threads are its own
        if not process:
            _jobs(arguments.folder, number, name, hostile)
            os._exit(0)
        os.waitpid(process, 0)


def _jobs(folder: Path, number: int, name: str, hostile: Behaviour) -> None:
    """Run the jobs of a behaviour, and print a line about each."""
    have = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (have + MEMORY, have + MEMORY))
    for after in (0, 1):
        own = folder / f"{number} {after}"
        with serving(hostile, after) as url:
            found = job(url, own)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(
            json.dumps({"name": name, "after": after, "wrong": verdict(found, own), "peak": peak} | found), flush=True
        )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
    main()
