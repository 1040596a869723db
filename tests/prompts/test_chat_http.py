"""One question over HTTP, against a server on a real socket."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import Any

import pytest
from doubles.chat_server import Step, completion, drips, drips_after, fails, half, hangs_up, raw, says, serving, stalls

from synthgen.prompts import chat_http
from synthgen.prompts.chat_http import Endpoint, NoAnswerError, NotChatError, ask

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "seed": 3}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def endpoint(url: str, **changes: Any) -> Endpoint:
    return Endpoint(**{"base_url": url, "key": "", "timeout_s": 5.0, "retries": 2, "backoff_s": 0.0, **changes})


def test_asks_as_the_protocol_wants_and_gives_the_text() -> None:
    with serving(says("good day")) as server:
        assert ask(endpoint(server.url, key="secret"), REQUEST) == "good day"
    assert server.paths == ["/v1/chat/completions"]
    assert server.asked == [REQUEST]
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert server.headers[0]["Content-Type"] == "application/json"


def test_without_a_key_no_authorization_is_sent() -> None:
    with serving(says("x")) as server:
        ask(endpoint(server.url + "/"), REQUEST)
    assert "Authorization" not in server.headers[0]
    assert server.paths == ["/v1/chat/completions"]


@pytest.mark.parametrize("trouble", [fails(429), fails(500), fails(503, b"<html>"), hangs_up, half])
def test_what_may_pass_is_tried_again(trouble: Step) -> None:
    with serving(trouble, trouble, says("at last")) as server:
        assert ask(endpoint(server.url), REQUEST) == "at last"
    assert len(server.asked) == 3


def test_waits_grow_and_follow_retry_after_within_reason() -> None:
    waits: list[float] = []
    steps = [
        fails(500),
        fails(429, Retry_After="7"),
        fails(429, Retry_After="999999"),
        fails(429, Retry_After="soon"),
        says("x"),
    ]
    with serving(*steps) as server:
        ask(endpoint(server.url, retries=4, backoff_s=0.5), REQUEST, waits.append)
    assert waits == [0.5, 7.0, chat_http.MAX_WAIT_S, 4.0]


def test_gives_up_with_one_line_that_says_what_to_do() -> None:
    with serving(fails(503, b"loading the model\n")) as server, pytest.raises(NoAnswerError) as found:
        ask(endpoint(server.url), REQUEST)
    assert len(server.asked) == 3
    told = str(found.value)
    assert "\n" not in told
    for part in (
        server.url,
        "no answer after 3 tries",
        "HTTP 503 loading the model",
        "timeout_s",
        "answers so far are kept",
    ):
        assert part in told


@pytest.mark.parametrize(
    ("status", "way_out"), [(401, "key_variable"), (403, "key_variable"), (404, "base_url"), (400, "response_format")]
)
def test_what_no_try_can_mend_is_told_at_once_without_the_key(status: int, way_out: str) -> None:
    with (
        serving(fails(status, b'{"error": "no"}')) as server,
        pytest.raises(NoAnswerError, match=f"answers {status}.*{way_out}") as found,
    ):
        ask(endpoint(server.url, key="secret"), REQUEST)
    assert len(server.asked) == 1
    assert "secret" not in str(found.value)


def test_a_redirect_does_not_carry_the_key_elsewhere() -> None:
    with serving(says("stolen")) as other, serving(fails(307, b"", Location=f"{other.url}/chat/completions")) as server:
        with pytest.raises(NoAnswerError, match="redirects are not followed"):
            ask(endpoint(server.url, key="secret"), REQUEST)
        assert other.asked == []


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "slow",
    [
        stalls,
        drips,
        drips_after(b"HTTP/1.1 200 "),
        drips_after(b"HTTP/1.1 200 OK\r\nX-Why: "),
        drips_after(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        drips_after(CHUNKED + b"1;"),
        drips_after(CHUNKED + b"0\r\n", b"T: a\r\n"),
        drips_after(b"HTTP/1.1 400 Bad\r\n\r\n"),
        drips_after(b"HTTP/1.1 500 Bad\r\nContent-Length: 100000\r\n\r\n"),
    ],
)
def test_a_server_that_stalls_or_drips_is_left(slow: Step) -> None:
    with serving(slow, says("quick")) as server:
        began = time.monotonic()
        assert ask(endpoint(server.url, timeout_s=1.5, retries=1), REQUEST) == "quick"
        assert time.monotonic() - began < 10


def test_a_tls_handshake_that_drips_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def drip() -> None:
            peer, _ = server.accept()
            with peer, contextlib.suppress(OSError):
                peer.sendall(b"\x16\x03\x03\x40\x00")  # the head of a record of 16 KiB
                while not over.wait(0.02):
                    peer.sendall(b"\x02")

        thread = threading.Thread(target=drip)
        thread.start()
        began = time.monotonic()
        with pytest.raises(NoAnswerError, match=r"TimeoutError timed out: no whole answer in 0\.5 s"):
            ask(endpoint(f"https://127.0.0.1:{server.getsockname()[1]}/v1", timeout_s=0.5, retries=0), REQUEST)
        assert time.monotonic() - began < 10
        over.set()
        thread.join()


@pytest.mark.parametrize("status", [400, 500, 200])
@pytest.mark.parametrize(
    "told", [b"you sent: Bearer sk-secret", b'{"sent": "Bearer sk-secret"', b"x" * 395 + b"sk-secret"]
)
def test_no_message_holds_the_key_that_a_server_repeats(status: int, told: bytes) -> None:
    with (
        serving(fails(status, told)) as server,
        pytest.raises((NoAnswerError, NotChatError), match=r"<the key>|xxx") as found,
    ):
        ask(endpoint(server.url, key="sk-secret", retries=0), REQUEST)
    assert "secret" not in str(found.value) and "sk-" not in str(found.value)


@pytest.mark.parametrize("key", ["sk-secret", 'sk-"secret'])
def test_no_answer_holds_the_key(key: str) -> None:
    with serving(says(f"a street, {key}, at night")) as server:
        assert ask(endpoint(server.url, key=key), REQUEST) == "a street, <the key>, at night"
    with serving(fails(400, json.dumps({"sent": key}).encode())) as server, pytest.raises(NoAnswerError) as found:
        ask(endpoint(server.url, key=key), REQUEST)
    assert "secret" not in str(found.value)


def test_nobody_at_the_address() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    with pytest.raises(NoAnswerError, match=r"no answer after 3 tries \(the last: ConnectionRefusedError"):
        ask(endpoint(url), REQUEST)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>busy</html>",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"message": null}]}',
        completion(None),
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_an_answer_out_of_protocol_is_no_reason_to_stop(body: bytes) -> None:
    with serving(raw(body)) as server, pytest.raises(NotChatError):
        ask(endpoint(server.url), REQUEST)
    assert len(server.asked) == 1


def test_an_answer_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_http, "MAX_BYTES", 1 << 20)
    with serving(raw(b" " * (3 << 20))) as server, pytest.raises(NotChatError, match="more than 1 MiB"):
        ask(endpoint(server.url), REQUEST)
