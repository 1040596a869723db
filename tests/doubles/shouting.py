"""A stage that shouts words, and its folder looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from synthgen import runner
from synthgen.records import Rejected
from synthgen.runner import Unit


@dataclasses.dataclass(frozen=True, slots=True)
class Word:
    key: str
    parent: str
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Book:
    key: str
    parents: tuple[str, ...]


class Shout:
    """Writes a file for each word; refuses those that begin with x."""

    def process(self, rows: Sequence[Word], folder: Path, unit: str) -> Iterator[Word | Rejected]:
        for row in rows:
            if row.text.startswith("x"):
                yield Rejected(row.key, row.key, "shout", "begins_with_x", row.text, 0.0)
                continue
            (folder / f"{row.key}.txt").write_text(row.text.upper())
            yield Word(row.key, row.key, row.text.upper())


WORDS = [Word(f"w{number}", "", text) for number, text in enumerate(["one", "two", "xerxes", "four"])]
UNIT = Unit("00000", 0, 4)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the times, by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != runner.SECONDS
    }


def one_line(message: object) -> str:
    text = str(message)
    assert "\n" not in text
    return text
