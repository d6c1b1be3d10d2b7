"""How much of what a served model can answer is used: ratios of wall time, measured in one run, interleaved, median.

    python tests/benchmarks/remote.py --rounds 5 --output benchmark-results/remote.json

A table of the same, with the targets, is written beside the JSON file.

The server is the tests' own, in a process of its own, and takes a twentieth of a second for each answer. The yardstick are
as many bare connections (`http.client`, four, kept open) that do nothing but send the same requests and read the answers.
"""

import argparse
import http.client
import json
import multiprocessing
import statistics
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tools" / "scripts"))

from dnalm.engine.asking import IN_FLIGHT, SEQUENCES, Answer, Asker
from dnalm.models.served import Endpoint, ServedModel
from endpoint import serving

SECONDS = 0.05  # of an answer
TARGETS = {
    "one vector a token: ours / bare connections": ">= 0.9",
    "pooled: ours / bare connections": ">= 0.9",
    "most requests in flight": f"<= {IN_FLIGHT}",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200, help="of a round")
    parser.add_argument("--output", type=Path, help="JSON file of the ratios; a table is written beside it")
    arguments = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    url = ours.recv()
    random = np.random.default_rng(0)
    sequences = ["".join(random.choice(list("ACGT"), 300)) for _ in range(arguments.requests * SEQUENCES)]
    variants: dict[str, Callable[[], object]] = {
        "tokens, bare": lambda: bare(f"{url}/tokens", [[one] for one in sequences[: arguments.requests]]),
        "tokens, ours": lambda: embed(f"{url}/tokens", sequences[: arguments.requests]),
        "pooled, bare": lambda: bare(f"{url}/pooled", in_parts(sequences)),
        "pooled, ours": lambda: embed(f"{url}/pooled", sequences),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(arguments.rounds):
        for name, run in variants.items():
            start = time.monotonic()
            run()
            seconds[name].append(time.monotonic() - start)
        print(f"round {number + 1} of {arguments.rounds} done", flush=True)
    ours.send(None)
    most_in_flight = ours.recv()
    server.join()
    taken = {name: statistics.median(found) for name, found in seconds.items()}
    ideal = arguments.requests / IN_FLIGHT * SECONDS
    measured = {
        "one vector a token: ours / bare connections": taken["tokens, bare"] / taken["tokens, ours"],
        "pooled: ours / bare connections": taken["pooled, bare"] / taken["pooled, ours"],
        "one vector a token: ours / a server without any cost of its own": ideal / taken["tokens, ours"],
        "most requests in flight": float(most_in_flight),
    }
    results = {name: {"measured": round(value, 6), "target": TARGETS.get(name)} for name, value in measured.items()}
    table = "ratio\tmeasured\ttarget\n"
    for name, result in results.items():
        table += f"{name}\t{result['measured']:.7g}\t{result['target'] or ''}\n"
    print(table.expandtabs(68))
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")
        arguments.output.with_suffix(".tsv").write_text(table)


def serve(pipe: Connection) -> None:
    """Serve until told to end, then tell how many requests were in flight at most."""
    with serving() as endpoint:
        endpoint.seconds = SECONDS
        pipe.send(endpoint.url)
        pipe.recv()
        pipe.send(endpoint.most_in_flight)


def in_parts(sequences: list[str]) -> list[list[str]]:
    """Return the sequences of each request to a server that pools."""
    return [sequences[start : start + SEQUENCES] for start in range(0, len(sequences), SEQUENCES)]


def embed(url: str, sequences: list[str]) -> None:
    """Ask as the tool does; the first request, alone, shows what answers are like."""
    with ServedModel(Endpoint("benchmark", url), None) as served:
        asker = Asker(served, "mean", 10 * len(sequences))
        outcomes = [*asker.ask(sequences[:1]), *asker.ask(sequences[1:])]
    assert all(isinstance(outcome, Answer) for _, outcome in outcomes)


def bare(url: str, requests: list[list[str]]) -> None:
    """Send the requests over as many open connections as the tool has, and read the answers."""
    parts = urlsplit(url)
    waiting = iter(requests)
    lock = threading.Lock()

    def work() -> None:
        connection = http.client.HTTPConnection(parts.netloc)
        while True:
            with lock:
                given = next(waiting, None)
            if given is None:
                return
            content = json.dumps({"inputs": given if len(given) > 1 else given[0]})
            connection.request("POST", parts.path, content, {"Content-Type": "application/json"})
            json.loads(connection.getresponse().read())

    threads = [threading.Thread(target=work) for _ in range(IN_FLIGHT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
