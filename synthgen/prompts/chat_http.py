"""One question and one answer over the OpenAI chat protocol, as vLLM, Ollama, llama.cpp and hosted services speak it.

    POST <base_url>/chat/completions   {"model", "messages", "temperature", "seed", "max_tokens", "response_format"}
    -> {"choices": [{"message": {"content": "..."}}]}

What may pass (no connection, a time-out, 408, 429, 5xx) is tried again after 1, 2, 4 ... times `backoff_s`, or as long
as Retry-After says. An answer has a time limit as a whole and a size limit, so a server that drips or never ends cannot
hold a run. Redirects are not followed: they would carry the key to another host.
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
from synthgen.errors import ModelError

MAX_BYTES = 4 << 20  # of one answer
MAX_WAIT_S = 60.0  # between two tries, whatever Retry-After says
_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to ask, and how patiently."""

    base_url: str  # http://localhost:8000/v1
    key: str  # "" = no Authorization header; never logged, never stored
    timeout_s: float  # of one try, from the connection to the last byte
    retries: int  # tries after the first
    backoff_s: float  # wait before the first retry; doubles each time


class NoAnswerError(ModelError):
    """The endpoint gave no answer after all tries, or one that no try can mend."""


class NotChatError(Exception):
    """The endpoint answered, but not in the protocol. Worth counting, not worth stopping for."""


def ask(endpoint: Endpoint, request: dict[str, Any], sleep: Callable[[float], None] = time.sleep) -> str:
    """The text of the first choice. Raises NoAnswerError in one line, and NotChatError for an answer of another
    form."""
    body = json.dumps(request).encode()
    why, asked_for_s = "", 0.0
    for number in range(endpoint.retries + 1):
        if number:
            sleep(min(MAX_WAIT_S, max(asked_for_s, endpoint.backoff_s * 2.0 ** (number - 1))))
        asked_for_s = 0.0
        try:
            return _content(_post(endpoint, body))
        except urllib.error.HTTPError as error:
            said = _excerpt(error)
            if error.code not in _AGAIN:
                raise NoAnswerError(
                    f"{endpoint.base_url}: answers {error.code} ({said}); {_way_out(error.code)}"
                ) from error
            after = error.headers.get("Retry-After", "")
            asked_for_s = float(after) if after.isdecimal() else 0.0
            why = f"HTTP {error.code} {said}"
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            why = " ".join(f"{type(reason).__name__} {reason}".split()) if not isinstance(reason, str) else reason
    tries = endpoint.retries + 1
    raise NoAnswerError(
        f"{endpoint.base_url}: no answer after {tries} tries (the last: {why[:160]}); start the server, mend "
        "prompts.source.base_url or raise "
        "timeout_s, then run the same command again: answers so far are kept"
    )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None


def _post(endpoint: Endpoint, body: bytes) -> bytes:
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "synthgen"}
    if endpoint.key:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    request = urllib.request.Request(f"{endpoint.base_url.rstrip('/')}/chat/completions", body, headers, method="POST")
    end = time.monotonic() + endpoint.timeout_s
    with urllib.request.build_opener(_NoRedirects).open(request, timeout=endpoint.timeout_s) as response:
        parts, size = [], 0
        while part := response.read1(1 << 16):
            parts.append(part)
            size += len(part)
            if size > MAX_BYTES:
                raise NotChatError(f"an answer of more than {MAX_BYTES >> 20} MiB")
            if time.monotonic() > end:
                raise TimeoutError(f"timed out: no whole answer in {endpoint.timeout_s:g} s")
        if response.length:  # what Content-Length promised and the server did not send; read1 does not mind
            raise http.client.IncompleteRead(b"", response.length)
        return b"".join(parts)


def _content(raw: bytes) -> str:
    try:
        content = parse_json(raw, "answer")["choices"][0]["message"]["content"]
    except (InputError, KeyError, IndexError, TypeError) as error:
        raise NotChatError(f"not a chat completion: {raw[:80]!r}") from error
    if not isinstance(content, str):
        raise NotChatError(f"a chat completion without text: {type(content).__name__}")
    return content


def _excerpt(error: urllib.error.HTTPError) -> str:
    try:
        text = error.read(400).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        text = ""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:120] or error.reason


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
