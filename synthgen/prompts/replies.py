"""What a language model said, as data: the captions in a reply, and the file in which replies are kept.

A reply is never more than a list of sentences. No key of it is acted on: it cannot name a class, a file or a setting;
control and invisible characters are dropped, a caption that is too long is dropped, and only so many are taken as were
asked for.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import unicodedata
from pathlib import Path
from typing import Any

from segkit.documents import parse_json
from synthgen.errors import InputError, StorageError

MAX_CHARS = 300  # of a caption; CLIP reads 77 tokens
_BULLET = re.compile(r"^\s*(?:[-*•]|\(?\d{1,3}[.):])\s+")
_TRIES = 64  # places of a reply where JSON is looked for: each try may read to the end


def captions_of(reply: str, limit: int, as_lines: bool = False) -> list[str]:
    """At most `limit` captions of a reply, cleaned; [] if it is not of the form that was asked for.

    The form is a JSON object with the list `captions`, or a list alone, of texts or of objects with the text `prompt`;
    text around it (a code fence, thinking aloud) is passed over. `as_lines`: one caption a line, with or without a
    bullet.
    """
    found = [_BULLET.sub("", line).strip(" \"'") for line in reply.splitlines()] if as_lines else _listed(reply)
    captions: dict[str, None] = {}  # in the order of the reply
    for text in found:
        if len(captions) == limit:
            break
        caption = clean(text)
        if caption and len(caption) <= MAX_CHARS:
            captions[caption] = None
    return list(captions)


def clean(text: str) -> str:
    """One line of printable text:

    control, format (zero-width, right-to-left) and private characters are dropped, runs of space become one.
    """
    text = " ".join(text.split())  # line breaks are control characters too, but stand for a space
    return " ".join("".join(c for c in text if unicodedata.category(c)[0] != "C").split())


def _listed(reply: str) -> list[str]:
    decoder = json.JSONDecoder()
    reply = reply[:100_000]
    for match in itertools.islice(re.finditer(r"[\[{]", reply), _TRIES):
        try:
            value, _ = decoder.raw_decode(reply, match.start())
        except (ValueError, RecursionError):  # Python refuses to read thousands of digits
            continue
        if isinstance(value, dict):
            value = value.get("captions")
        if isinstance(value, list):
            texts = [item.get("prompt") if isinstance(item, dict) else item for item in value]
            if any(isinstance(text, str) for text in texts):
                return [text for text in texts if isinstance(text, str)]
    return []


def schema(limit: int) -> dict[str, Any]:
    """JSON schema of the reply that is asked for."""
    captions = {"type": "array", "items": {"type": "string", "maxLength": MAX_CHARS}, "minItems": 1, "maxItems": limit}
    return {
        "type": "object",
        "properties": {"captions": captions},
        "required": ["captions"],
        "additionalProperties": False,
    }


class Replies:
    """Replies by what was asked: JSONL of {"asked": digest, "reply": text}, each line on disk before it is used.

    A model is not asked twice the same question: not after a kill, and not in a run that is given an older run's file.
    """

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._used: dict[str, str] = {}
        self._path: Path | None = None

    def read(self, path: Path, *, damaged_end: bool = False) -> None:
        """Add what a file holds. `damaged_end`: a last line that was cut by a kill is passed over.

        Raises InputError that names the line.
        """
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"prompts.source.replies {path}: cannot be read ({error}); give a replies.jsonl of an earlier run"
            ) from error
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                item = parse_json(line, "reply")
                asked, reply = item["asked"], item["reply"]
                if not isinstance(asked, str) or not isinstance(reply, str):
                    raise TypeError("not texts")
            except (InputError, KeyError, TypeError) as error:
                if damaged_end and number == len(lines):
                    continue
                raise InputError(
                    f"{path}:{number}: is no stored reply; give a replies.jsonl of an earlier run"
                ) from error
            self._known[asked] = reply

    def keep_in(self, path: Path) -> None:
        """Read what an interrupted run has left there, and put every new reply there too."""
        if path.is_file():
            self.read(path, damaged_end=True)
            text = path.read_text(encoding="utf-8")
            if text and not text.endswith("\n"):  # cut by a kill
                with path.open("r+b") as file:
                    file.truncate(len(text[: text.rfind("\n") + 1].encode()))
        self._path = path

    def get(self, asked: dict[str, Any]) -> str | None:
        """The stored reply to a question; None if there is none."""
        key = _digest(asked)
        if key not in self._known:
            return None
        self._used[key] = self._known[key]
        return self._known[key]

    def add(self, asked: dict[str, Any], reply: str) -> None:
        """Raises StorageError if the disk is full."""
        key = _digest(asked)
        self._known[key] = self._used[key] = reply
        if self._path is None:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(key, reply))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(
                f"{self._path}: cannot be written ({error.strerror}); free the space, then run the same command again"
            ) from error

    def used_text(self) -> str:
        """The replies that made this bank, in the order of their questions: the text of replies.jsonl."""
        return "".join(_line(key, reply) for key, reply in self._used.items())


def _digest(asked: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=16).hexdigest()


def _line(key: str, reply: str) -> str:
    return json.dumps({"asked": key, "reply": reply}, ensure_ascii=True) + "\n"
