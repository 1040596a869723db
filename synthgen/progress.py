"""What a person sees while a run goes on and when it is over:

a live bar on a terminal, plain lines elsewhere, and a short table.

`watch` shows the same from another terminal or machine: it reads the run folder and nothing else.
"""

from __future__ import annotations

import collections
import contextlib
import shlex
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from segkit.printable import duration, printable
from synthgen import lock, pipeline, runner, stages, storage
from synthgen.engines import accelerate, events
from synthgen.errors import RunError

PLAIN_EVERY_S = 5.0
WATCH_EVERY_S = 2.0
# share of the time that a watcher spends looking: a run folder of a million units is not listed every two seconds
MOST_OF_TIME = 0.1


class Pace:
    """Speed and time left of one stage, since the first unit that was seen to be done: what comes before it is the
    loading of models, which does not come again.

    Times are monotonic, so a clock that jumps changes nothing.
    """

    def __init__(self, at: pipeline.Progress) -> None:
        self._began, self._first, self._has_begun = time.monotonic(), at, False

    def text(self, at: pipeline.Progress) -> str:
        """For example "3.1/s, 20 min left"; empty until a second unit has come, or the last one."""
        if not self._has_begun and self._first.done_units < at.done_units < at.num_units:
            self._began, self._first, self._has_begun = time.monotonic(), at, True
        elapsed = time.monotonic() - self._began
        rows = at.made + at.refused - self._first.made - self._first.refused
        units = at.done_units - self._first.done_units
        if rows <= 0 or units <= 0 or elapsed <= 0:
            return ""
        left = duration((at.num_units - at.done_units) * elapsed / units)
        return f"{rows / elapsed:.3g}/s" + (f", {left} left" if at.done_units < at.num_units else "")


def show(news: Iterable[pipeline.Progress], run: Path | None = None) -> None:
    """Consume the news of one stage and show it, with the GPU memory from the event log of `run`.

    Of several ranks only the first speaks, for all.
    """
    if accelerate.rank() > 0:
        for _ in news:
            pass
        return
    console = Console(stderr=True)
    if console.is_terminal:
        _live(news, console, run)
    else:
        _plain(news, run)


def _live(news: Iterable[pipeline.Progress], console: Console, run: Path | None) -> None:
    columns = (
        TextColumn("{task.description:8}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} units"),
        TextColumn("{task.fields[rows]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[pace]}"),
    )
    with Progress(*columns, console=console) as bars:
        bar, pace, memory, looked = None, None, "", 0.0
        gpu_memory = GpuMemory(run)
        for item in news:
            rows = f"{item.made} made, {item.refused} rejected"
            if bar is None or pace is None:
                bar, pace = bars.add_task(item.stage, total=item.num_units, rows=rows, pace=""), Pace(item)
            if time.monotonic() - looked >= PLAIN_EVERY_S:
                memory, looked = gpu_memory.text(item.stage), time.monotonic()
            bars.update(bar, completed=item.done_units, rows=rows, pace=pace.text(item) + memory)


def _plain(news: Iterable[pipeline.Progress], run: Path | None) -> None:
    began, said = time.monotonic(), -PLAIN_EVERY_S
    pace, gpu_memory = None, GpuMemory(run)
    for item in news:
        pace = pace or Pace(item)
        now = time.monotonic()
        last = item.done_units == item.num_units
        if now - said >= PLAIN_EVERY_S or last:
            said = now
            how = ", ".join(part for part in (f"{now - began:.0f} s", pace.text(item)) if part)
            how += gpu_memory.text(item.stage)
            print(
                f"{item.stage:8} {item.done_units}/{item.num_units} units, {item.made} made, {item.refused} "
                f"rejected, {how}",
                file=sys.stderr,
                flush=True,
            )


class GpuMemory:
    """The most GPU memory that a unit of each stage has taken, by the event log, of which each look reads the news."""

    def __init__(self, run: Path | None) -> None:
        self._log = events.EventLog(run) if run is not None else None
        self._most_gb: dict[str, float] = {}

    def text(self, stage: str) -> str:
        """For example ", 17.2 GB of a GPU"; empty without a GPU or without a run."""
        for event in self._log.new() if self._log is not None else ():
            if event["event"] == "unit":
                name = event.get("stage", "")
                self._most_gb[name] = max(self._most_gb.get(name, 0.0), event.get("gpu_gb", 0.0))
        most_gb = self._most_gb.get(stage, 0.0)
        return f", {most_gb:.1f} GB of a GPU" if most_gb else ""


def standing(run: Path) -> dict[str, Any]:
    """Where every stage of a run stands. Raises RunError if the folder is no run."""
    standings: dict[str, Any] = {}
    if not (run / lock.LOCK).is_file():
        raise RunError(f"{run}: is not a run folder (no {lock.LOCK}); runs lie in runs/ by default")
    for name, stage in stages.stages(run).items():
        if not stage.is_claimed():
            standings[name] = {"units": None, "done": 0, "made": 0, "rejected": {}, "seconds": 0.0}
            continue
        units, missing = stage.units(), stage.missing()
        standings[name] = {
            "units": len(units),
            "done": len(units) - len(missing),
            "made": stage.num_rows(),
            "rejected": stage.reasons(),
            "seconds": round(runner.seconds(stage), 1),
        }
    return standings


def incidents(run: Path) -> dict[str, int]:
    """What went wrong and was dealt with:

    `retry`, `smaller_batch`, `failed_sample`, `lost_worker`, each with how often.
    """
    return dict(collections.Counter(body["event"] for body in events.read_events(run) if body["event"] != "unit"))


def watch(run: Path, every_s: float = WATCH_EVERY_S) -> None:
    """Show where a run stands, again and again, until its dataset is whole:

    a live table on a terminal, a line a change elsewhere.
    """
    console = Console()
    paces: dict[str, Pace] = {}
    with Live(console=console, auto_refresh=False) if console.is_terminal else contextlib.nullcontext() as live:
        said = ""
        while True:
            began = time.monotonic()
            standings = standing(run)
            texts = {name: _pace_text(name, at, paces) for name, at in standings.items()}
            if live is not None:
                live.update(_table(run, standings, texts), refresh=True)
            else:
                last = list(standings.items())[-1]
                name, at = next(((name, at) for name, at in standings.items() if at["done"] != at["units"]), last)
                refused = sum(at["rejected"].values())
                line = f"{name:8} {at['done']}/{at['units'] or '?'} units, {at['made']} made, {refused} rejected"
                if line != said:
                    said = line
                    print(", ".join(part for part in (line, texts[name]) if part), flush=True)
            if (
                all(at["done"] == at["units"] for at in standings.values())
                and storage.size_of(run / "dataset" / "index.json") is not None
            ):
                return
            time.sleep(max(every_s, (time.monotonic() - began) / MOST_OF_TIME))


def _pace_text(name: str, at: dict[str, Any], paces: dict[str, Pace]) -> str:
    if not at["units"]:
        return ""
    now = pipeline.Progress(name, "", at["done"], at["units"], at["made"], sum(at["rejected"].values()))
    return paces.setdefault(name, Pace(now)).text(now)


def _table(run: Path, standings: dict[str, Any], paces: dict[str, str] | None = None) -> Table:
    table = Table(title=Text(printable(storage.with_urls(run))), title_justify="left")
    for column in ("stage", "units", "made", "rejected", "seconds", *(("pace",) if paces else ()), "reasons"):
        table.add_column(column, justify="left" if column in ("stage", "pace", "reasons") else "right")
    for name, at in standings.items():
        units = "not begun" if at["units"] is None else f"{at['done']}/{at['units']}"
        reasons = Text(printable(", ".join(f"{reason} {count}" for reason, count in at["rejected"].items())))
        pace = (paces[name],) if paces else ()
        table.add_row(
            name, units, str(at["made"]), str(sum(at["rejected"].values())), f"{at['seconds']:.1f}", *pace, reasons
        )
    return table


def summary(run: Path) -> None:
    """The closing table: what was made, kept and rejected, why, how long it took, and where it lies."""
    standings = standing(run)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(_table(run, standings))
    dealt_with = ", ".join(f"{event} {count}" for event, count in incidents(run).items())
    if dealt_with:
        _print(console, f"dealt with: {dealt_with} (lines in {storage.with_urls(run / events.FOLDER)})")
    if any(runner.FAILED in at["rejected"] for at in standings.values()):
        how = f"see them with `synthgen retry {_word(run)}`, try them again with --failed"
        _print(console, f"samples that failed are left out; {how}")
    for name, stage in stages.stages(run).items():
        closing_lines = getattr(stages.modules()[name], "closing_lines", None)
        for line in closing_lines(stage) if closing_lines and stage.is_claimed() else ():
            _print(console, line)
    dataset = run / "dataset"
    if storage.size_of(dataset / "index.json") is not None:
        kept = standings["filter"]["made"]
        line = (
            f"{kept} samples in {dataset} (look at {dataset / 'contact_sheet.png'}; check with `synthgen "
            f"verify {_word(dataset)}`, read about it with `synthgen report {_word(run)}`)"
        )
        _print(console, storage.with_urls(line))


def _word(place: Path) -> str:
    """A place as a shell takes it for one word."""
    return shlex.quote(storage.with_urls(place))


def _print(console: Console, line: str) -> None:
    """One line as it is: names in it are no markup and move no cursor."""
    console.print(Text(printable(line)), soft_wrap=True, highlight=False)
