"""A Hugging Face hub on this machine: the part of its API that huggingface_hub uses to find and fetch models.

Answers are shaped as the real hub's (https://huggingface.co/docs/hub/api): a model's files with size, git hash and, of
large files, SHA-256; large files are served from another port by a redirect, as from the hub's storage. It can be
told to break a download off, to serve wrong bytes, and to ask for a token.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin")  # as the hub's .gitattributes has it


@dataclass(frozen=True)
class Request:
    """What a client asked: where a download was to begin, and with which token."""

    method: str
    path: str
    first_byte: int | None
    token: str | None


@dataclass
class Repository:
    """A model: its files, what its card says, its branches and tags, and who may read it."""

    id: str
    files: dict[str, bytes]
    card: dict[str, Any] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    pipeline_tag: str | None = None
    # What a file is served as, where that is not what the hub says it is.
    wrong_bytes: dict[str, bytes] = field(default_factory=dict)
    # After so many bytes a download breaks off, and until `mend` the hub is out of order for that file.
    breaks_after: dict[str, int] = field(default_factory=dict)
    mends_itself: bool = False
    # Files of which only the first half comes, and then nothing for a minute.
    stalls: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)

    @property
    def commit(self) -> str:
        """The commit of its one state."""
        digest = hashlib.sha1(usedforsecurity=False)
        for name, content in sorted(self.files.items()):
            digest.update(name.encode() + b"\0" + content)
        return digest.hexdigest()

    def knows(self, revision: str) -> bool:
        """Whether a name stands for its commit."""
        return revision in {self.commit, "main", *self.branches}

    def mend(self) -> None:
        """Serve every file again."""
        self.breaks_after.clear()
        self.broken.clear()


@dataclass
class Hub:
    """The server's state: models by id, tokens it knows, those whose account accepted terms, and every request."""

    url: str = ""
    storage_url: str = ""
    models: dict[str, Repository] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    let_in: set[str] = field(default_factory=set)
    requests: list[Request] = field(default_factory=list)
    # What is answered in place of a model's description, as by a network that wants a log-in.
    strange_answer: bytes | None = None
    stalled: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)

    def add(self, model_id: str, folder: Path | dict[str, bytes], **settings: Any) -> Repository:
        """Publish a folder, or files given by name, as a model."""
        if isinstance(folder, Path):
            folder = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self.models[model_id] = Repository(model_id, folder, **settings)
        return self.models[model_id]

    def fetched(self) -> list[tuple[str, int | None]]:
        """Return the files that were downloaded, each with its first byte (None for the whole), in order."""
        found = []
        for request in self.requests:
            match = re.match(r"/(storage|.*/resolve)/.*?([^/]+)$", request.path)
            if match and (match[1] == "storage" or not match[2].endswith(LARGE)):
                found.append((match[2], request.first_byte))
        return found


@contextmanager
def serving() -> Iterator[Hub]:
    """Run a hub and its storage on free ports of 127.0.0.1."""
    hub = Hub()

    class HubHandler(Handler):
        pass

    HubHandler.hub = hub
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), HubHandler) for _ in range(2)]
    hub.url, hub.storage_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


class Handler(BaseHTTPRequestHandler):
    """Answers one client."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Be silent."""

    def do_HEAD(self) -> None:
        """Answer without content."""
        self._answer()

    def do_GET(self) -> None:
        """Answer with content."""
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        authorization = self.headers.get("Authorization", "")
        token = authorization.removeprefix("Bearer ") or None
        span = re.fullmatch(r"bytes=(\d+)-\d*", self.headers.get("Range", ""))
        first = int(span[1]) if span else None
        self.hub.requests.append(Request(self.command, path, first, token))
        if path.startswith("/storage/"):
            _, _, organisation, model, name = path.split("/", 4)
            return self._send_file(self.hub.models[f"{organisation}/{model}"], name, first)
        if token is not None and token not in self.hub.tokens:
            return self._refuse(401, "", "Invalid credentials in Authorization header")
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            return self._model(found[1], found[2] or "main", token)
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file(found[1], found[2], found[3], token, first)
        return self._refuse(404, "RepoNotFound", "Repository not found")

    def _model(self, model_id: str, revision: str, token: str | None) -> None:
        if self.hub.strange_answer is not None:
            return self._send(200, self.hub.strange_answer, {"Content-Type": "text/html"})
        repository = self._repository(model_id, revision, token)
        if repository is None:
            return None
        siblings = []
        for name, content in sorted(repository.files.items()):
            sibling: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git_hash(content)}
            if name.endswith(LARGE):
                sibling["lfs"] = {"sha256": sha256(content), "size": len(content), "pointerSize": 135}
            siblings.append(sibling)
        said = {
            "_id": "0",
            "id": model_id,
            "modelId": model_id,
            "sha": repository.commit,
            "private": False,
            "gated": "auto" if repository.gated else False,
            "tags": ["transformers"],
            "cardData": repository.card,
            "pipeline_tag": repository.pipeline_tag,
            "siblings": siblings,
        }
        return self._send(200, json.dumps(said).encode(), {"Content-Type": "application/json"})

    def _file(self, model_id: str, revision: str, name: str, token: str | None, first: int | None) -> None:
        repository = self._repository(model_id, revision, token)
        if repository is None:
            return
        if repository.gated and token not in self.hub.let_in:
            self._refuse(403 if token else 401, "GatedRepo", f"Access to model {model_id} is restricted.")
        elif name not in repository.files:
            self._refuse(404, "EntryNotFound", "Entry not found")
        elif name.endswith(LARGE):
            digest = sha256(repository.files[name])
            headers = {
                "Location": f"{self.hub.storage_url}/storage/{model_id}/{name}",
                "X-Repo-Commit": repository.commit,
                "X-Linked-Etag": f'"{digest}"',
                "X-Linked-Size": str(len(repository.files[name])),
            }
            self._send(302, b"", headers)
        else:
            self._send_file(repository, name, first)

    def _repository(self, model_id: str, revision: str, token: str | None) -> Repository | None:
        repository = self.hub.models.get(model_id)
        if repository is None:
            self._refuse(404 if token else 401, "RepoNotFound", "Repository not found")
            return None
        if not repository.knows(revision):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repository

    def _send_file(self, repository: Repository, name: str, first: int | None) -> None:
        if name in repository.broken:
            return self._refuse(503, "", "Service Unavailable")
        content = repository.wrong_bytes.get(name, repository.files[name])
        headers = {"ETag": f'"{git_hash(content)}"', "X-Repo-Commit": repository.commit, "Accept-Ranges": "bytes"}
        status, begin = 200, 0
        if first is not None:
            status, begin = 206, first
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        limit = None
        if self.command == "GET" and name in repository.breaks_after:
            limit = repository.breaks_after.pop(name)
            if not repository.mends_itself:
                repository.broken.add(name)
        if self.command == "GET" and name in repository.stalls:
            self._send(status, content[begin:], headers, len(content) // 2)
            self.wfile.flush()
            self.hub.stalled.set()
            self.hub.closing.wait(60)
            return None
        return self._send(status, content[begin:], headers, limit)

    def _refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str], limit: int | None = None) -> None:
        """Send all of the content, or break off within it."""
        self.send_response(HTTPStatus(status))
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[:limit])
        if limit is not None:
            self.close_connection = True


def sha256(content: bytes) -> str:
    """Return the hash of a large file."""
    return hashlib.sha256(content).hexdigest()


def git_hash(content: bytes) -> str:
    """Return the hash git has for a small file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
