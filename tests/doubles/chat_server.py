"""A server of the OpenAI chat protocol on a real socket of this machine, which does what a script says:

one step a request, the last step for ever.

A step is a callable that gets the handler and does what it likes with the connection. `says`, `fails`, `raw`, `stalls`
and `drips` make steps.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Step = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    asked: dict[str, Any]

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, ChatServer)
        self.asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            step = server.steps[min(len(server.asked), len(server.steps) - 1)]
            server.asked.append(self.asked)
            server.headers.append(dict(self.headers))
            server.paths.append(self.path)
        with contextlib.suppress(OSError):  # who asked may have given up
            step(self)

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class ChatServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.steps = list(steps)
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@contextlib.contextmanager
def serving(*steps: Step) -> Iterator[ChatServer]:
    server = ChatServer(steps)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.done.set()
        server.shutdown()
        thread.join()
        server.server_close()


def completion(content: object) -> bytes:
    return json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]}).encode()


def says(content: object) -> Step:
    """A completion with this text."""
    return lambda handler: handler.answer(200, completion(content), Content_Type="application/json")


def captions(*texts: object) -> Step:
    return says(json.dumps({"captions": texts}))


def writes(make: Callable[[dict[str, Any], int], Sequence[str]]) -> Step:
    """Captions that follow from the question and its number."""

    def step(handler: Handler) -> None:
        assert isinstance(handler.server, ChatServer)
        captions(*make(handler.asked, len(handler.server.asked) - 1))(handler)

    return step


def fails(status: int, body: bytes = b"{}", **headers: str) -> Step:
    return lambda handler: handler.answer(status, body, **headers)


def raw(body: bytes) -> Step:
    """Status 200 with any body."""
    return lambda handler: handler.answer(200, body)


def hangs_up(handler: Handler) -> None:
    handler.close_connection = True
    handler.connection.close()


def stalls(handler: Handler) -> None:
    """Says nothing until the test is over."""
    assert isinstance(handler.server, ChatServer)
    handler.server.done.wait(30)


def drips(handler: Handler) -> None:
    """A byte now and then, without end."""
    assert isinstance(handler.server, ChatServer)
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.done.is_set():
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.02)


def drips_after(beginning: bytes, drop: bytes = b"a") -> Step:
    """Sends `beginning` as it is, then a drop now and then, without end."""

    def step(handler: Handler) -> None:
        assert isinstance(handler.server, ChatServer)
        handler.wfile.write(beginning)
        with contextlib.suppress(OSError):  # the client has gone
            while not handler.server.done.is_set():
                handler.wfile.write(drop)
                handler.wfile.flush()
                time.sleep(0.02)
        handler.close_connection = True

    return step


def half(handler: Handler) -> None:
    """Promises more than it sends."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True
