"""What a person sees while a run goes on and when it is over: a live bar on a terminal, plain lines elsewhere, and a short table."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from synthgen import pipeline, runner
from synthgen.engines import accelerate
from synthgen.errors import RunError

PLAIN_EVERY_S = 5.0


def show(news: Iterable[pipeline.Progress]) -> None:
    """Consume the news of one stage and show it. Of several ranks only the first speaks."""
    if accelerate.rank() > 0:
        for _ in news:
            pass
        return
    console = Console(stderr=True)
    if console.is_terminal:
        _live(news, console)
    else:
        _plain(news)


def _live(news: Iterable[pipeline.Progress], console: Console) -> None:
    columns = (
        TextColumn("{task.description:8}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} units"),
        TextColumn("{task.fields[rows]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        bar = None
        for item in news:
            rows = f"{item.made} made, {item.refused} rejected"
            if bar is None:
                bar = bars.add_task(item.stage, total=item.num_units, rows=rows)
            bars.update(bar, completed=item.done_units, rows=rows)


def _plain(news: Iterable[pipeline.Progress]) -> None:
    began, said = time.monotonic(), -PLAIN_EVERY_S
    for item in news:
        now = time.monotonic()
        last = item.done_units == item.num_units
        if now - said >= PLAIN_EVERY_S or last:
            said = now
            print(
                f"{item.stage:8} {item.done_units}/{item.num_units} units, {item.made} made, {item.refused} rejected, {now - began:.0f} s",
                file=sys.stderr,
                flush=True,
            )


def standing(run: Path) -> dict[str, Any]:
    """Where every stage of a run stands. Raises RunError if the folder is no run."""
    found: dict[str, Any] = {}
    if not (run / pipeline.LOCK).is_file():
        raise RunError(f"{run}: is not a run folder (no {pipeline.LOCK}); runs lie in runs/ by default")
    for name, stage in pipeline.stages(run).items():
        if not stage.is_claimed():
            found[name] = {"units": None, "done": 0, "made": 0, "rejected": {}, "seconds": 0.0}
            continue
        units, missing = stage.units(), stage.missing()
        found[name] = {
            "units": len(units),
            "done": len(units) - len(missing),
            "made": stage.num_rows(),
            "rejected": stage.reasons(),
            "seconds": round(runner.seconds(stage), 1),
        }
    return found


def summary(run: Path) -> None:
    """The closing table: what was made, kept and rejected, why, how long it took, and where it lies."""
    table = Table(title=str(run), title_justify="left")
    for column in ("stage", "units", "made", "rejected", "seconds", "reasons"):
        table.add_column(column, justify="left" if column in ("stage", "reasons") else "right")
    for name, at in standing(run).items():
        units = "not begun" if at["units"] is None else f"{at['done']}/{at['units']}"
        reasons = ", ".join(f"{reason} {count}" for reason, count in at["rejected"].items())
        table.add_row(name, units, str(at["made"]), str(sum(at["rejected"].values())), f"{at['seconds']:.1f}", reasons)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    dataset = run / "dataset"
    if (dataset / "index.json").is_file():
        kept = standing(run)["filter"]["made"]
        told = f"{kept} samples in {dataset} (look at {dataset / 'contact_sheet.png'}; check with `synthgen verify {dataset}`)"
        console.print(told, soft_wrap=True, highlight=False, markup=False)
