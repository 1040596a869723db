"""What a person sees while something long goes on: a bar with the time left on a terminal, log lines elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from segkit.printable import printable

_SPEED_PERIOD_S = 120.0


class Bar:
    """Does nothing where there is no terminal: `is_live` says so."""

    def __init__(self, progress: Progress | None, task: Any = None) -> None:
        self._progress, self._task = progress, task

    @property
    def is_live(self) -> bool:
        return self._progress is not None

    def show(self, done: int, text: str | None = None) -> None:
        """How far it is, and a few words beside the bar; None leaves those that are there."""
        if self._progress is not None:
            words: dict[str, Any] = {} if text is None else {"words": Text(printable(text))}
            self._progress.update(self._task, completed=done, **words)


@contextlib.contextmanager
def bar(total: int, done: int = 0) -> Iterator[Bar]:
    """A bar on standard error, of `total` steps of which `done` were done before; log lines appear above it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Bar(None)
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[words]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console, speed_estimate_period=_SPEED_PERIOD_S, refresh_per_second=4) as progress:
        yield Bar(progress, progress.add_task("", total=total, completed=done, words=""))


class StandardError(logging.StreamHandler[TextIO]):
    """Writes to what standard error is at that moment: while a bar is shown, it is above the bar."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr
