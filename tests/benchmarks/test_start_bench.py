"""The benchmark of starting: its commands are ones, and it measures the process that it names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import run, start
from synthgen.cli import app


def test_rows_are_medians_of_each_command() -> None:
    sleeps = [sys.executable, "-c", "import time; time.sleep(0.2)"]
    works = [sys.executable, "-c", "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: 0"]
    rows = {row.name: row for row in start.rows_of({"sleeps": sleeps, "works": works}, 2)}
    assert set(rows) == {f"start/{name}_{unit}" for name in ("sleeps", "works") for unit in ("s", "cpu_s")}
    assert all(row.n == 2 and row.unit == "s" for row in rows.values())
    wall, cpu = (float(rows[f"start/sleeps_{unit}"].value) for unit in ("s", "cpu_s"))
    assert wall > 0.2 and cpu < wall - 0.2 + 1e-3, "what sleeps costs the processor nothing, however slow the machine"
    assert rows["start/works_cpu_s"].value > 0.2, "the processor's time is the child's"  # type: ignore[operator]


def test_a_command_that_fails_gives_no_row() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        start.seconds_of([sys.executable, "-c", "raise SystemExit(3)"])


def test_every_command_is_one_and_has_its_rows(tmp_path: Path) -> None:
    lines = start.command_lines(tmp_path, "small")
    assert tuple(lines) == start.COMMANDS
    assert {f"start/{name}_{unit}" for name in lines for unit in ("s", "cpu_s")} == set(start.ROWS)
    assert run.BENCHMARKS["benchmarks.start:commands"] == start.ROWS
    assert lines["status"][-1] == str(tmp_path / "small")
    dry = CliRunner().invoke(app, [*lines["finished_run"][3:], "--dry-run", "--json"])
    assert dry.exit_code == 0, dry.output
