"""A loopback stand-in of the model Hub: metadata, file trees, resolve, gating and the Hub's own error headers.

A repository has commits; each commit is a folder of files. `move` makes another commit the one that `main` names.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


class Repository:
    """One model repository."""

    def __init__(self, gated: bool = False) -> None:
        self.gated = gated
        self.commits: dict[str, Path] = {}
        self.refs: dict[str, str] = {}

    def move(self, folder: Path, branch: str = "main") -> str:
        """A new commit with the files of a folder; returns it."""
        commit = hashlib.sha1(f"{folder}{len(self.commits)}".encode()).hexdigest()
        self.commits[commit] = folder
        self.refs[branch] = commit
        return commit


class Hub:
    """The repositories of a server, what it was asked, and its address."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []
        self.token = "hf_allowed"
        self.pause_s = 0.0  # before each piece of a file

    def add(self, name: str, folder: Path, gated: bool = False) -> Repository:
        repository = self.repositories[name] = Repository(gated)
        repository.move(folder)
        return repository


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.hub.asked.append(f"{self.command} {path}")
        parts = path.split("/")
        if parts[:2] == ["api", "models"]:
            return self._api("/".join(parts[2:4]), parts[4:], body)
        if len(parts) > 4 and parts[2] == "resolve":
            return self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]), body)
        return self._error(404, "", "Not Found")

    def _commit(self, name: str, revision: str) -> tuple[Repository, str] | None:
        """The repository and commit, or None after the error has been sent."""
        repository = self.hub.repositories.get(name)
        if repository is None:
            # the real text says so of every repository that is not there
            self._error(401, "RepoNotFound", "Repository not found. If it is private or gated, log in.")
            return None
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repository, commit

    def _api(self, name: str, rest: list[str], body: bool) -> None:
        kind, revision = (rest[0], rest[1]) if len(rest) > 1 else ("revision", "main")
        found = self._commit(name, revision)
        if found is None:
            return
        repository, commit = found
        folder = repository.commits[commit]
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if kind == "tree":
            entries = [
                {"type": "file", "path": p.relative_to(folder).as_posix(), "size": p.stat().st_size, "oid": "0" * 40}
                for p in files
            ]
            return self._send(json.dumps(entries).encode(), {"Content-Type": "application/json"}, body)
        info = {
            "id": name,
            "modelId": name,
            "sha": commit,
            "private": False,
            "gated": "manual" if repository.gated else False,
            "tags": [],
            "siblings": [{"rfilename": path.relative_to(folder).as_posix()} for path in files],
        }
        self._send(json.dumps(info).encode(), {"Content-Type": "application/json"}, body)

    def _file(self, name: str, revision: str, file: str, body: bool) -> None:
        found = self._commit(name, revision)
        if found is None:
            return
        repository, commit = found
        allowed = self.headers.get("Authorization", "") == f"Bearer {self.hub.token}"
        if repository.gated and not allowed:
            return self._error(403, "GatedRepo", f"Access to model {name} is restricted.")
        path = repository.commits[commit] / file
        if not path.is_file():
            return self._error(404, "EntryNotFound", "Entry not found")
        data = path.read_bytes()
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(data).hexdigest()}"', "Accept-Ranges": "bytes"}
        self._send(data, headers, body)

    def _send(self, data: bytes, headers: dict[str, str], body: bool, status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not body:
            return
        piece = 1 << 14 if self.hub.pause_s else max(1, len(data))
        for start in range(0, len(data), piece):
            time.sleep(self.hub.pause_s)
            self.wfile.write(data[start : start + piece])
            self.wfile.flush()

    def _error(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message} if code else {}
        self._send(json.dumps({"error": message}).encode(), headers, self.command == "GET", status)


@contextlib.contextmanager
def hub() -> Iterator[Hub]:
    """A server on the loopback interface for as long as the block lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {}))
    server.daemon_threads = True
    standin = Hub(f"http://127.0.0.1:{server.server_port}")
    server.RequestHandlerClass.hub = standin  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield standin
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
