"""A run of the tiny recipe as a whole: what it gives, the same whatever the cut, and on from where it stopped."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from doubles.processes import environment
from doubles.runs import whole_run
from doubles.stamps import digest, stamps
from doubles.world import IDS, paint

from segkit.shards import Dataset
from synthgen import lock, pipeline, runner, stages, worker
from synthgen.dataset.verify import verify
from synthgen.engines import accelerate, teams
from synthgen.errors import RunError
from synthgen.pack.counts import RunCounts
from synthgen.recipe import read_recipe
from synthgen.records import seed_of

Tiny = Callable[..., Path]
Cli = Callable[..., Any]
Calls = Callable[[], list[str]]
STAGES = stages.names()
# what a run gives


def test_dataset_is_whole_and_every_stage_has_refused_something(undisturbed: Path) -> None:
    assert verify(undisturbed / "dataset") == []
    found = stages.stages(undisturbed)
    assert all(stage.is_complete() for stage in found.values())
    assert found["prompts"].reasons().keys() == {"near_duplicate"}
    assert found["render"].reasons().keys() == {"not_finite"}
    assert "blank_image" in found["filter"].reasons()
    assert len(list((undisturbed / "dataset").glob("train-*.tar"))) >= 2
    assert len(list((undisturbed / "dataset").glob("validation-*.tar"))) == 1


def test_no_row_is_lost_between_stages(undisturbed: Path) -> None:
    found = stages.stages(undisturbed)
    counts = RunCounts(**{**pipeline.card_facts(undisturbed), "mask_rates": ()})
    for before, name in itertools.pairwise(STAGES[1:-1]):
        assert counts.made[name] + sum(counts.rejected[name].values()) == counts.made[before], name
        seen = {row.key for row in found[name].rows()} | {row.parent for row in found[name].rejected()}
        assert seen == {row.key for row in found[before].rows()}
    packed = [key for shard in found["pack"].rows() for key in shard.parents]
    assert sorted(packed) == sorted(row.key for row in found["filter"].rows())


def test_masks_are_about_what_the_prompts_ask_for(undisturbed: Path) -> None:
    """The doubles' world is easy: what comes out of all stages must be nearly the drawn truth."""
    for sample in Dataset(undisturbed / "dataset"):
        name = sample.meta["class_name"]
        assert name in sample.meta["prompt"] or "coin" in sample.meta["prompt"]
        truth = paint(name, seed_of(sample.key))[1]
        both = (sample.mask == IDS[name]) & (truth == IDS[name])
        assert both.sum() / ((sample.mask == IDS[name]) | (truth == IDS[name])).sum() > 0.6


def test_seed_of_every_image_follows_from_its_key(undisturbed: Path) -> None:
    rows = stages.stages(undisturbed)["render"].rows()
    assert [row.picture.seed for row in rows] == [seed_of(row.key) for row in rows]


# the same whatever the cut


@pytest.mark.parametrize("change", ["unit_rows=1", "unit_rows=64", "batch_size=1", "batch_size=3"])
def test_dataset_is_the_same_to_the_byte(undisturbed: Path, tiny: Tiny, tmp_path: Path, change: str) -> None:
    run = whole_run(tiny(), tmp_path / "run", f"execution.{change}")
    assert digest(run / "dataset") == digest(undisturbed / "dataset")


def test_two_workers_leave_the_same_units(undisturbed: Path, finished: Path, tiny: Tiny) -> None:
    recipe = read_recipe(str(tiny()), ["execution.workers=2"])
    for name in ("render", "refine"):
        shutil.rmtree(finished / name)
        for _ in pipeline.run_stage(recipe, finished, name):
            pass
        made = [
            {path: found for path, found in digest(run / name).items() if not path.endswith(runner.SECONDS)}
            for run in (finished, undisturbed)
        ]
        assert made[0] == made[1]


def test_support_folder_may_move_and_the_run_folder_too(undisturbed: Path, tmp_path: Path, calls: Calls) -> None:
    """Rows hold paths relative to the run, and a support set is known by its content."""
    shutil.copytree(undisturbed, tmp_path / "elsewhere")
    recipe = yaml.safe_load((undisturbed / lock.LOCK).read_text())
    shutil.copytree(recipe["support"]["folder"], tmp_path / "support")
    recipe["support"]["folder"] = str(tmp_path / "support")
    (tmp_path / "moved.yaml").write_text(yaml.safe_dump(recipe))
    before = digest(tmp_path / "elsewhere" / "dataset")
    whole_run(tmp_path / "moved.yaml", tmp_path / "elsewhere")
    assert calls() == []
    assert digest(tmp_path / "elsewhere" / "dataset") == before


# resume


def test_a_finished_run_loads_no_model_and_writes_nothing(finished: Path, tiny: Tiny, calls: Calls) -> None:
    run = finished
    before = stamps(run)
    whole_run(tiny(), run)
    assert calls() == []
    assert stamps(run) == before


def test_only_what_is_missing_is_done(undisturbed: Path, finished: Path, tiny: Tiny, calls: Calls) -> None:
    run = finished
    shutil.rmtree(run / "render" / "00001")
    shutil.rmtree(run / "refine" / "00002")
    before = stamps(run)
    whole_run(tiny(), run)
    done = calls()
    assert [call for call in done if call.startswith("build")] == [
        "build renderer",
        "build feature_extractor",
        "build mask_decoder",
    ]
    assert done.count("renderer") == 1, "one batch of one unit"
    after = stamps(run)
    redone = {"render", "render/00001", "refine", "refine/00002"}
    assert {path for path in before if before[path] != after[path]} == {
        path for path in before if path in redone or str(Path(path).parent) in redone - {"render", "refine"}
    }
    assert digest(run / "dataset") == digest(undisturbed / "dataset")


def test_models_of_a_stage_are_let_go_before_the_next_are_loaded(tmp_path: Path, tiny: Tiny) -> None:
    for _ in pipeline.run_stage(read_recipe(str(tiny())), tmp_path / "run", "prompts"):
        pass
    assert worker.built.cache_info().currsize == 0


def test_a_stage_waits_for_the_one_before(tmp_path: Path, tiny: Tiny, finished: Path) -> None:
    recipe = read_recipe(str(tiny()))
    with pytest.raises(
        RunError,
        match="the stage 'render' has not been run; run `synthgen render` first, or `synthgen run` for all stages",
    ):
        list(pipeline.run_stage(recipe, tmp_path / "new", "refine"))
    run = finished
    shutil.rmtree(run / "score" / "00000")
    with pytest.raises(RunError, match="the stage 'score' has 1 units to do; run `synthgen filter` first"):
        list(pipeline.run_stage(recipe, run, "filter"))


def test_progress_counts_up_to_what_is_there(finished: Path, tiny: Tiny) -> None:
    run = finished
    shutil.rmtree(run / "render" / "00001")
    news = list(pipeline.run_stage(read_recipe(str(tiny())), run, "render"))
    stage = stages.stages(run)["render"]
    assert [(item.unit, item.done_units) for item in news] == [
        ("", len(stage.units()) - 1),
        ("00001", len(stage.units())),
    ]
    assert (news[-1].made, news[-1].refused) == (stage.num_rows(), len(stage.rejected()))


# two ranks of accelerate

TwoRanks = Callable[[Callable[[int], None]], None]


@pytest.fixture
def two_ranks(monkeypatch: pytest.MonkeyPatch) -> TwoRanks:
    """Runs a function of the rank for both ranks, as threads; afterwards this thread is the first one."""
    here, barrier, told = threading.local(), threading.Barrier(2, timeout=60), dict[str, Any]()
    here.rank = 0

    def wait_for_all(ready: Callable[[], bool] = lambda: True) -> None:
        until = time.monotonic() + 60
        while not ready() and time.monotonic() < until:
            time.sleep(0.01)
        barrier.wait()

    def of_first_rank(value: Any) -> Any:
        if here.rank == 0:
            told["value"] = value
        barrier.wait()
        found = told["value"]
        barrier.wait()
        return found

    def both(one_rank: Callable[[int], None]) -> None:
        def as_rank(rank: int) -> None:
            here.rank = rank
            one_rank(rank)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(as_rank, range(2)))

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(accelerate, "rank", lambda: here.rank)
    monkeypatch.setattr(accelerate, "device", lambda: "cpu")
    monkeypatch.setattr(accelerate, "wait_for_all", wait_for_all)
    monkeypatch.setattr(accelerate, "of_first_rank", of_first_rank)
    return both


def test_ranks_that_come_late_leave_no_gap(
    undisturbed: Path, tmp_path: Path, tiny: Tiny, two_ranks: TwoRanks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second rank looks for its units when the first could long be at work."""
    here = threading.local()
    see = runner.StageRun.missing

    def late(stage: runner.StageRun) -> list[runner.Unit]:
        if accelerate.rank() == 1 and stage.name == "render" and not hasattr(here, "looked"):
            here.looked, until = True, time.monotonic() + 1
            while not list(stage.folder.glob("0*")) and time.monotonic() < until:
                time.sleep(0.01)
        return see(stage)

    def one_rank(rank: int) -> None:
        for name in ("prompts", "render"):
            for _ in pipeline.run_stage(recipe, tmp_path / "run", name):
                pass

    recipe = read_recipe(str(tiny()))
    monkeypatch.setattr(runner.StageRun, "missing", late)
    two_ranks(one_rank)
    rows = {folder: stages.stages(folder)["render"].rows() for folder in (tmp_path / "run", undisturbed)}
    assert rows[tmp_path / "run"] == rows[undisturbed]


def test_ranks_leave_no_gap_where_another_launch_ends_a_unit_between_their_looks(
    undisturbed: Path, tmp_path: Path, two_ranks: TwoRanks
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    for path in (run / "render").glob("0*"):
        shutil.rmtree(path)
    looked, see = threading.Event(), runner.StageRun.missing

    def between(stage: runner.StageRun) -> list[runner.Unit]:
        if accelerate.rank() == 1:
            looked.wait(60)
            shutil.copytree(undisturbed / "render" / "00000", run / "render" / "00000")
        found = see(stage)
        if accelerate.rank() == 0:
            looked.set()
        return found

    def one_rank(rank: int) -> None:
        stage, team = stages.stages(run)["render"], teams.Ranks()
        for unit, *_ in team.run_units(lambda unit: (0, 0), team.begin(stage, between(stage)), False):
            shares.append(unit.name)

    shares: list[str] = []
    two_ranks(one_rank)
    assert sorted(shares) == [unit.name for unit in stages.stages(run)["render"].units()]


@pytest.mark.slow
def test_two_ranks_make_the_same_dataset(undisturbed: Path, tmp_path: Path, tiny: Tiny) -> None:
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
        "29617",
        "-m",
        "synthgen",
    ]
    done = subprocess.run(
        [*launch, "run", str(tiny()), "--runs", str(tmp_path / "runs")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "runs" / "tiny" / "dataset") == digest(undisturbed / "dataset")


def test_images_differ_between_samples(undisturbed: Path) -> None:
    """The comparisons above would be empty if every sample were the same picture."""
    images = [sample.image for sample in Dataset(undisturbed / "dataset")]
    assert len({image.tobytes() for image in images}) == len(images)
    assert np.std([image.mean() for image in images]) > 0
