"""What the pages of docs/results are written with: paragraphs, tables of rows, and where those were measured."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping

from benchmarks.table import Line

MISSING = "not measured"
Table = Mapping[str, Line]


def text(*lines: str) -> Iterator[str]:
    """A paragraph, with an empty line after it."""
    yield from textwrap.wrap(" ".join(lines), 150, break_long_words=False, break_on_hyphens=False)
    yield ""


def shown(table: Table, name: str) -> str:
    return table[name].shown if name in table else MISSING


def n(table: Table, name: str) -> str:
    return table[name].n if name in table else ""


def number(table: Table, name: str) -> float | None:
    return table[name].number if name in table else None


def grid(heads: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|---" * len(heads) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def where(table: Table, names: Iterable[str], took: Mapping[str, str], benchmarks: Iterable[str]) -> Iterator[str]:
    """On what machine and when the rows of a table were measured, and how long that took."""
    found = [table[name] for name in names if name in table]
    if not found:
        return
    devices = ", ".join(sorted({line.device for line in found}))
    dates = sorted({line.date for line in found})
    wall = ", ".join(f"{re.sub('^benchmarks.', '', name)} {took[name]}" for name in benchmarks if name in took)
    yield (
        f"Machine: {devices}. Date: {dates[0]}{f' to {dates[-1]}' if dates[-1] != dates[0] else ''}. Wall "
        f"time: {wall or 'not noted'}."
    )
    yield ""
