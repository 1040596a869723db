"""A run that is killed, or whose disk is full, and the same command that finishes it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.processes import environment
from doubles.stamps import digest

from synthgen import pipeline, runner, stages
from synthgen.dataset.verify import verify
from synthgen.errors import StorageError
from synthgen.recipe import read_recipe

Tiny = Callable[..., Path]
Cli = Callable[..., Any]
Calls = Callable[[], list[str]]
STAGES = stages.names()

MOMENTS = [(stage, moment) for stage in STAGES for moment in ("claim", "working", "committing")] + [("pack", "index")]


def killed(stage: str, moment: str, recipe: Path, runs: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "doubles.killed", stage, moment, "run", str(recipe), "--runs", str(runs), *more]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)


def test_kill_9_in_each_stage_and_the_same_command_finishes_it(
    undisturbed: Path, tmp_path: Path, tiny: Tiny, cli: Cli
) -> None:
    """One run, killed in every stage in the middle of a unit, each time started again by the same command."""
    recipe, run = tiny(), tmp_path / "runs" / "tiny"
    for stage in STAGES:
        ended = killed(stage, "working", recipe, run.parent)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert list((run / stage).glob(".*")), "it left something half made"
        assert not stages.stages(run)[stage].is_complete()
        assert not (run / "dataset").exists()
    done = cli("run", recipe)
    assert done.exit_code == 0, done.output
    assert digest(run / "dataset") == digest(undisturbed / "dataset")
    assert verify(run / "dataset") == []
    assert not [path for path in run.rglob(".*") if path.is_dir()], "scratch is swept"


@pytest.mark.parametrize(("stage", "moment"), [("render", "claim"), ("refine", "committing"), ("pack", "index")])
def test_kill_9_at_awkward_moments(
    undisturbed: Path, finished: Path, tiny: Tiny, cli: Cli, stage: str, moment: str
) -> None:
    recipe, run = tiny(), finished
    for later in (*STAGES[STAGES.index(stage) :], "dataset"):
        shutil.rmtree(run / later)
    assert killed(stage, moment, recipe, run.parent).returncode == -signal.SIGKILL
    assert not (run / "dataset" / "index.json").exists()
    assert cli("run", recipe).exit_code == 0
    assert digest(run / "dataset") == digest(undisturbed / "dataset")


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "moment"), MOMENTS)
def test_kill_9_everywhere(undisturbed: Path, tmp_path: Path, tiny: Tiny, cli: Cli, stage: str, moment: str) -> None:
    recipe, run = tiny(), tmp_path / "runs" / "tiny"
    assert killed(stage, moment, recipe, run.parent).returncode == -signal.SIGKILL
    assert cli("run", recipe).exit_code == 0
    assert digest(run / "dataset") == digest(undisturbed / "dataset")


def test_disk_that_is_full_in_the_middle(
    undisturbed: Path, tmp_path: Path, tiny: Tiny, process: Callable[..., Any], cli: Cli
) -> None:
    """The kernel itself refuses: no file may grow beyond 16 KiB, so the first shard cannot be written."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384)); from synthgen.cli "
        "import app; app(sys.argv[1:])"
    )
    recipe, run = tiny(), tmp_path / "runs" / "tiny"
    done = process("-c", code, "run", recipe, "--runs", run.parent)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"synthgen: {run / 'pack'}") and "written (File too large); free" in last
    assert not (run / "dataset").exists() and not list((run / "pack").glob(".*"))
    assert cli("run", recipe).exit_code == 0
    assert digest(run / "dataset") == digest(undisturbed / "dataset")


def test_disk_that_is_full_in_each_stage(
    undisturbed: Path, tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read_recipe(str(tiny()))
    run = tmp_path / "run"
    for name in STAGES:
        with monkeypatch.context() as patch:
            patch.setattr(runner, "RowWriter", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(StorageError, match=rf"run/{name}/.*: cannot be written \(No space left on device\)"):
                list(pipeline.run_stage(recipe, run, name))
        for _ in pipeline.run_stage(recipe, run, name):
            pass
    assert digest(run / "dataset") == digest(undisturbed / "dataset")
