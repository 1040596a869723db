"""How long the command lines take to begin and to say that there is nothing to do: rows start/*.

Each figure is of a process of its own, as a user starts it, byte code of the modules written before; seconds of wall
time and of the processor, medians of ROUNDS, the commands in turn. `python` is an interpreter that does nothing,
`libraries` one that imports numpy, pyarrow.parquet, pydantic and typer: what any command line that reads these files
would pay. `status` looks at a finished run, `finished_run` is the same `synthgen run` once more. Spread is over rounds.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.row import SCRATCH, Row, spread_of
from benchmarks.trainings import dataset_of

ROUNDS = 9
RECIPE = "syn4seg-mini"
SMALL = ("prompts.per_class=2", "render.images_per_prompt=1")
COMMANDS = ("python", "libraries", "synthgen_help", "segtrain_help", "status", "finished_run")
ROWS = tuple(f"start/{command}_{unit}" for command in COMMANDS for unit in ("s", "cpu_s"))


def commands() -> Iterator[Row]:
    """start/*."""
    runs = SCRATCH / "start" / "runs"
    dataset_of(RECIPE, runs / "small", SMALL)
    yield from rows_of(command_lines(runs, "small"), ROUNDS)


def command_lines(runs: Path, run: str) -> dict[str, list[str]]:
    """Of each of COMMANDS, with a finished run of RECIPE."""
    again = ["run", RECIPE, "--runs", str(runs), "--run", run]
    synthgen, segtrain = [sys.executable, "-m", "synthgen"], [sys.executable, "-m", "segtrain"]
    return {
        "python": [sys.executable, "-c", ""],
        "libraries": [sys.executable, "-c", "import numpy, pyarrow.parquet, pydantic, typer"],
        "synthgen_help": [*synthgen, "--help"],
        "segtrain_help": [*segtrain, "--help"],
        "status": [*synthgen, "status", str(runs / run)],
        "finished_run": [*synthgen, *again, *(word for setting in SMALL for word in ("--set", setting))],
    }


def rows_of(lines: Mapping[str, Sequence[str]], rounds: int) -> Iterator[Row]:
    """A round before is not counted: it writes byte code and fills the cache of files."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in lines}
    for number in range(rounds + 1):
        for name, line in lines.items():
            took = seconds_of(line)
            if number:
                found[name].append(took)
    for name, times in found.items():
        for unit, values in zip(("s", "cpu_s"), np.array(times).T, strict=True):
            yield Row(f"start/{name}_{unit}", float(np.median(values)), "s", spread_of(values), rounds)


def seconds_of(line: Sequence[str]) -> tuple[float, float]:
    """Wall time and processor time of a command and of what it starts. Raises CalledProcessError if it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, began = _children_s(), time.perf_counter()
    subprocess.run(line, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began, _children_s() - before


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
