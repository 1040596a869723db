"""One question and one answer over the OpenAI chat protocol, as vLLM, Ollama, llama.cpp and hosted services speak it.

    POST <base_url>/chat/completions   {"model", "messages", "temperature", "seed", "max_tokens", "response_format"}
    -> {"choices": [{"message": {"content": "..."}}]}

What may pass (no connection, a time-out, 408, 429, 5xx) is tried again after 1, 2, 4 ... times `backoff_s`, or as long
as Retry-After says. An answer has a time limit as a whole and a size limit, so a server that drips or never ends cannot
hold a run. Redirects are not followed: they would carry the key to another host. No message holds the key.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from segkit.documents import parse_json
from segkit.errors import InputError
from segkit.printable import printable
from synthgen.errors import ModelError
from synthgen.prompts.deadline_http import Answer, request

MAX_BYTES = 4 << 20  # of one answer
MAX_WAIT_S = 60.0  # between two tries, whatever Retry-After says
_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to ask, and how patiently."""

    base_url: str  # http://localhost:8000/v1
    key: str  # "" = no Authorization header; visible ASCII; never logged, never stored
    timeout_s: float  # of one try, from the connection to the last byte
    retries: int  # tries after the first
    backoff_s: float  # wait before the first retry; doubles each time


class NoAnswerError(ModelError):
    """The endpoint gave no answer after all tries, or one that no try can mend."""


class NotChatError(Exception):
    """The endpoint answered, but not in the protocol. Worth counting, not worth stopping for."""


def ask(endpoint: Endpoint, question: dict[str, Any], sleep: Callable[[float], None] = time.sleep) -> str:
    """The text of the first choice. Raises NoAnswerError in one line, and NotChatError for an answer of another
    form."""
    body = json.dumps(question).encode()
    why, asked_for_s = "", 0.0
    for number in range(endpoint.retries + 1):
        if number:
            sleep(min(MAX_WAIT_S, max(asked_for_s, endpoint.backoff_s * 2.0 ** (number - 1))))
        asked_for_s = 0.0
        try:
            answer = _post(endpoint, body)
        except (http.client.HTTPException, OSError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            why = reason if isinstance(reason, str) else f"{type(reason).__name__} {reason}"
            why = _told(why, endpoint)
            continue
        if 200 <= answer.status < 300:
            return _content(answer.body, endpoint)
        said = _told(answer.body.decode("utf-8", "replace") or answer.reason, endpoint)
        if answer.status not in _AGAIN:
            raise NoAnswerError(f"{endpoint.base_url}: answers {answer.status} ({said}); {_way_out(answer.status)}")
        after = answer.headers.get("Retry-After", "")
        asked_for_s = float(after) if after.isdecimal() else 0.0
        why = f"HTTP {answer.status} {said}"
    tries = endpoint.retries + 1
    raise NoAnswerError(
        f"{endpoint.base_url}: no answer after {tries} tries (the last: {why}); start the server, mend "
        "prompts.source.base_url or raise "
        "timeout_s, then run the same command again: answers so far are kept"
    )


def _post(endpoint: Endpoint, body: bytes) -> Answer:
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "synthgen"}
    if endpoint.key:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    asked = urllib.request.Request(f"{endpoint.base_url.rstrip('/')}/chat/completions", body, headers, method="POST")
    return request(asked, endpoint.timeout_s, MAX_BYTES)


def _content(raw: bytes, endpoint: Endpoint) -> str:
    if len(raw) > MAX_BYTES:
        raise NotChatError(f"an answer of more than {MAX_BYTES >> 20} MiB")
    try:
        content = parse_json(raw, "answer")["choices"][0]["message"]["content"]
    except (InputError, KeyError, IndexError, TypeError) as error:
        said = _told(raw.decode("utf-8", "replace"), endpoint)
        raise NotChatError(f"not a chat completion: {said!r}") from error
    if not isinstance(content, str):
        raise NotChatError(f"a chat completion without text: {type(content).__name__}")
    return _without_key(content, endpoint)  # answers are kept


def _told(text: str, endpoint: Endpoint) -> str:
    """What may be shown of what a server says: one short line without the key."""
    return printable(" ".join(_without_key(text, endpoint)[:1000].split()), 160)


def _without_key(text: str, endpoint: Endpoint) -> str:
    """Some servers repeat what they were sent."""
    for key in {endpoint.key, json.dumps(endpoint.key)[1:-1]} - {""}:
        text = text.replace(key, "<the key>")
    return text


def _way_out(code: int) -> str:
    if code in (401, 403):
        return "set the environment variable that prompts.source.key_variable names to a valid key"
    if code == 404:
        return "check prompts.source.base_url (it ends in /v1 for most servers) and prompts.source.model"
    if 300 <= code < 400:
        return "redirects are not followed; give the final address in prompts.source.base_url"
    return (
        "check prompts.source.model and, if the server does not know response_format, prompts.source.reply: "
        "json_object or lines"
    )
