"""Engines: every unit is done once, an error stops the rest and loses nothing, no process is left behind."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from doubles.processes import UNITS, alive, environment, numbered, waited, work
from hypothesis import given
from hypothesis import strategies as st

from synthgen.engines import accelerate, local
from synthgen.errors import RunError
from synthgen.models.devices import device_of_worker
from synthgen.runner import Unit


@pytest.mark.parametrize("workers", [1, 2])
def test_every_unit_is_done_once(tmp_path: Path, workers: int) -> None:
    done = list(local.run_units(functools.partial(work, tmp_path), UNITS, workers))
    assert sorted(done, key=lambda item: item[0].name) == [(unit, unit.start, 1) for unit in UNITS]
    pids = {int(path.read_text()) for path in tmp_path.iterdir()}
    assert (pids == {os.getpid()}) == (workers == 1)


def test_one_unit_needs_no_worker(tmp_path: Path) -> None:
    list(local.run_units(functools.partial(work, tmp_path), UNITS[:1], 8))
    assert (tmp_path / "00000").read_text() == str(os.getpid())


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_raised_as_it_is_and_what_is_done_stays(tmp_path: Path, workers: int) -> None:
    with pytest.raises(RunError, match=r"^00002 cannot be done$"):
        list(local.run_units(functools.partial(work, tmp_path, fails="00002"), UNITS, workers))
    assert {"00000", "00001"} <= {path.name for path in tmp_path.iterdir()}


def test_a_killed_worker_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(
        RunError,
        match=r"a worker process was killed, .*want of memory; lower execution\.workers or execution\.batch_size",
    ) as caught:
        list(local.run_units(functools.partial(work, tmp_path, dies="00001"), UNITS, 2))
    assert "\n" not in str(caught.value)


def test_units_of_a_killed_worker_go_to_a_new_one(tmp_path: Path) -> None:
    done = list(local.run_units(functools.partial(work, tmp_path, dies="00001", lives=1), UNITS, 2))
    assert sorted(done, key=lambda item: item[0].name) == [(unit, unit.start, 1) for unit in UNITS]
    assert len(list(tmp_path.glob(".died.*"))) == 1


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    """A worker waits for its next unit; if the parent is gone it must not wait for ever with a model in memory."""
    code = f"""
import functools
from pathlib import Path
from synthgen.engines.local import run_units
from doubles.processes import UNITS, endless
if __name__ == "__main__":
    list(run_units(functools.partial(endless, Path({str(tmp_path)!r})), UNITS, 2))
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, str(script)], env=environment())
    waited(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
    pids = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
    parent.kill()
    parent.wait()
    waited(lambda: not any(alive(pid) for pid in pids))


@given(num_units=st.integers(0, 12), world_size=st.integers(2, 5))
def test_ranks_share_the_units_without_gap_or_overlap(num_units: int, world_size: int) -> None:
    units = [Unit(f"{number:05d}", number, number + 1) for number in range(num_units)]
    done: list[Unit] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", str(world_size))
        for rank in range(world_size):
            patch.setenv("RANK", str(rank))
            assert accelerate.is_launched() and accelerate.rank() == rank
            share = [
                unit
                for unit, made, _ in accelerate.run_units(lambda unit: (unit.start, 0), units)
                if made == unit.start
            ]
            assert share == sorted(share, key=lambda unit: unit.name)
            done += share
    assert sorted(done, key=lambda unit: unit.name) == units


def test_a_plain_process_is_not_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    assert not accelerate.is_launched() and accelerate.rank() == 0
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not accelerate.is_launched()


def test_workers_of_a_pool_are_numbered_and_spread_over_the_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert local.worker_number() is None
    list(local.run_units(functools.partial(numbered, tmp_path), UNITS, 2))
    numbers = {path.read_text() for path in tmp_path.iterdir()}
    assert numbers <= {"0", "1"} and "0" in numbers
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [device_of_worker("auto", number) for number in range(6)] == [f"cuda:{n}" for n in (0, 1, 2, 3, 0, 1)]
    assert device_of_worker("cuda", 5) == "cuda:1"
    assert [device_of_worker(name, 3) for name in ("cpu", "cuda:2", "mps")] == ["cpu", "cuda:2", "mps"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert device_of_worker("auto", 3) == "auto"
