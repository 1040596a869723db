"""What is told while a run goes on: by itself, over all ranks, and by `synthgen status --watch` from beside it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synthgen import pipeline, progress, stages
from synthgen.engines import accelerate, teams
from synthgen.engines.events import write_event
from synthgen.pipeline import Progress
from synthgen.recipe import read_recipe

Tiny = Callable[..., Path]


def test_pace_leaves_out_what_comes_before_the_first_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = progress.Pace(Progress("render", "", 10, 100, 640, 0))
    assert pace.text(Progress("render", "", 10, 100, 640, 0)) == ""
    now += 600  # the models are loaded, and the first unit is made
    assert pace.text(Progress("render", "00010", 11, 100, 700, 0)) == ""
    now += 60
    assert pace.text(Progress("render", "00011", 13, 100, 760, 20)) == "1.33/s, 44 min left"
    assert pace.text(Progress("render", "00099", 100, 100, 6000, 400)) == "95/s"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7300, "2.0 h"), (200_000, "2.3 days")]
)
def test_durations(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text


def test_plain_lines_tell_speed_and_gpu_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    for gpu_gb in (11.0, 17.25):
        write_event(tmp_path / "run", "unit", stage="render", unit="00000", gpu_gb=gpu_gb)
    news = [
        Progress("render", "", 0, 2, 0, 0),
        Progress("render", "00000", 1, 2, 3, 0),
        Progress("render", "00001", 2, 2, 5, 1),
    ]
    progress.show(iter(news), tmp_path / "run")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("render   0/2 units, 0 made, 0 rejected, 0 s")
    assert lines[-1].startswith("render   2/2 units, 5 made, 1 rejected, 0 s, ") and lines[-1].endswith(
        "/s, 17.2 GB of a GPU"
    )


def test_watch_follows_a_run_until_its_dataset_is_whole(
    finished: Path, tiny: Tiny, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on by one step whenever the watcher sleeps."""
    recipe = read_recipe(str(tiny()))
    later = ("refine", "score", "filter", "pack")
    for name in (*later, "dataset"):
        shutil.rmtree(finished / name)
    steps = (item for name in later for item in pipeline.run_stage(recipe, finished, name))
    monkeypatch.setattr(time, "sleep", lambda _: next(steps, None))
    progress.watch(finished)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "refine   0/? units, 0 made, 0 rejected"
    assert lines[1].startswith("refine   0/3 units, 0 made") and lines[2].startswith("refine   1/3 units, 3 made")
    assert lines[-1].startswith("pack     3/3 units, 3 made") and len(lines) == len(set(lines)) > 8, "a line a change"


def test_watch_of_a_whole_run_ends_at_once(cli: Any, finished: Path) -> None:
    done = cli("status", finished, "--watch")
    assert done.exit_code == 0 and "pack" in done.stdout


def test_first_rank_tells_of_all_ranks(
    undisturbed: Path, tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second rank's units appear beside it while it waits for them."""
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    for path in (run / "render").glob("0*"):
        shutil.rmtree(path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(accelerate, "rank", lambda: 0)
    monkeypatch.setattr(accelerate, "device", lambda: "cpu")
    monkeypatch.setattr(accelerate, "wait_for_all", lambda ready=lambda: True: None)
    monkeypatch.setattr(accelerate, "of_first_rank", lambda value: value)
    monkeypatch.setattr(accelerate, "POLL_S", 0.01)
    monkeypatch.setattr(teams.Ranks, "EVERY_S", 0.0)
    news = []
    for item in pipeline.run_stage(read_recipe(str(tiny())), run, "render"):
        news.append(item)
        if item.done_units == 2 and len(news) > 3:
            for name in ("00001", "00003"):
                if not (run / "render" / name).exists():
                    shutil.copytree(undisturbed / "render" / name, run / "render" / name)
    stage = stages.stages(run)["render"]
    assert (news[-1].done_units, news[-1].made, news[-1].refused) == (4, stage.num_rows(), len(stage.rejected()))
    assert [item.done_units for item in news] == sorted(item.done_units for item in news)
