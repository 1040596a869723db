"""The durability harness in its short version: some real kills, the byte-identical dataset.

`make bench ROWS=engine/kills` is the long one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from doubles.processes import environment

ROOT = Path(__file__).parents[2]


def killed(*arguments: object) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.engine", *map(str, arguments)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork: this system has none")
def test_a_dozen_kills_and_the_same_dataset() -> None:
    toll = killed(12, "local")
    assert isinstance(toll["kills"], dict) and sum(toll["kills"].values()) >= 12
    assert toll["runs"] == toll["identical"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["accelerate", "pool", "ray"])
def test_workers_killed_and_the_same_dataset(engine: str) -> None:
    toll = killed(6, engine)
    assert isinstance(toll["kills"], dict) and sum(toll["kills"].values()) >= 6
    assert toll["runs"] == toll["identical"]
