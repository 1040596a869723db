"""What the pages of docs/results are written with: paragraphs, tables of rows, and where those were measured."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from benchmarks import run
from benchmarks.table import Line, results, times

MISSING = "not measured"
Table = Mapping[str, Line]


def write(name: str, page: Callable[[Table, Mapping[str, str]], str], argv: list[str] | None) -> None:
    """The command of a page: measure the rows NAME/* unless told otherwise, then write docs/results/NAME.md."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.claims_{name}", description=f"Measure rows {name}/*; write {place(name)}."
    )
    parser.add_argument("--tables-only", action="store_true", help="measure nothing, write the page from results.csv")
    if not parser.parse_args(argv).tables_only:
        run.main([f"{name}/"])
    path = Path(__file__).parents[1] / place(name)
    path.write_text(page(results(), times()), encoding="utf-8")
    print(path)


def place(name: str) -> str:
    """Of a page in the repository."""
    return f"docs/results/{name}.md"


def head(title: str, name: str, figures: str) -> Iterator[str]:
    """How a page begins. `figures` says what a number in it is."""
    yield f"# {title}: what was measured"
    yield ""
    yield from text(
        f"Written by `make claims-{name}` from `benchmarks/results.csv`: do not edit. `python -m "
        f"benchmarks.claims_{name} --tables-only` writes it again from the rows that are there. {figures} Rows that "
        f"nobody has measured yet say `{MISSING}`. What each row is, and what the generator has seen: "
        f"`benchmarks/{name}.py`."
    )


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
