"""One HTTP request that is over by its deadline, whatever the other side does.

A time-out of a socket counts from its last byte, so a server that sends one now and then (in the status line, between
headers, in a chunk's length, after an error) would hold the request for ever. Here a timer shuts the connection down at
the deadline, which ends any reading. Redirects are not followed, proxies of the environment are used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import socket
import threading
import urllib.error
import urllib.request
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """Of any status. `body` has at most the bytes that were asked for and one more."""

    status: int
    reason: str
    headers: http.client.HTTPMessage
    body: bytes


def request(asked: urllib.request.Request, timeout_s: float, max_bytes: int) -> Answer:
    """Send it and read the answer. Raises OSError (TimeoutError at the deadline) or http.client.HTTPException."""
    watch = _Watch()
    opener = urllib.request.build_opener(_NoRedirects, _Http(watch), _Https(watch))
    timer = threading.Timer(timeout_s, watch.cut)
    timer.daemon = True
    timer.start()
    try:
        answer = _answer(opener, asked, timeout_s, max_bytes)
    except (OSError, http.client.HTTPException, ValueError, AttributeError):
        if watch.is_over:  # whatever reading a connection that was shut down has raised
            raise _too_late(timeout_s) from None
        raise
    finally:
        timer.cancel()
        watch.close()
    if watch.is_over:
        raise _too_late(timeout_s)
    return answer


def _answer(
    opener: urllib.request.OpenerDirector, asked: urllib.request.Request, timeout_s: float, max_bytes: int
) -> Answer:
    try:
        response: Any = opener.open(asked, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        response = error
    with contextlib.closing(response):
        body = response.read(max_bytes + 1)
        promised = getattr(response, "length", None)  # and not read
        if len(body) <= max_bytes and promised:
            raise http.client.IncompleteRead(b"", promised)  # a reading of so many bytes does not mind
        return Answer(response.status, response.reason, response.headers, body)


def _too_late(timeout_s: float) -> TimeoutError:
    return TimeoutError(f"timed out: no whole answer in {timeout_s:g} s")


class _Watch:
    """The connections of a request. One that is opened after the deadline is shut down at once."""

    def __init__(self) -> None:
        self.is_over = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []

    def connect(self, *arguments: Any, **named: Any) -> socket.socket:
        """As socket.create_connection. Keeps a second descriptor, which outlives the socket's being wrapped in TLS."""
        opened = socket.create_connection(*arguments, **named)
        with self._lock:
            self._sockets.append(opened.dup())
        if self.is_over:
            self.cut()
        return opened

    def cut(self) -> None:
        with self._lock:
            self.is_over = True
            for opened in self._sockets:
                with contextlib.suppress(OSError):
                    opened.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            for opened in self._sockets:
                opened.close()
            self._sockets.clear()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None


def _watched(kind: type[http.client.HTTPConnection], watch: _Watch) -> Any:
    def connection(*arguments: Any, **named: Any) -> http.client.HTTPConnection:
        made = kind(*arguments, **named)
        made._create_connection = watch.connect  # type: ignore[attr-defined]  # there to be replaced, says http.client
        return made

    return connection


class _Http(urllib.request.HTTPHandler):
    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._connection = _watched(http.client.HTTPConnection, watch)

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._connection = _watched(http.client.HTTPSConnection, watch)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, req)
