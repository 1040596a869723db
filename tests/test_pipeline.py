"""The whole pipeline on a tiny recipe with doubles for every model:

the same dataset however it is cut, stopped, killed and resumed.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
import signal
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
from doubles.world import IDS, paint, write_world

from segkit.shards import Dataset
from synthgen import again, lock, pipeline, runner, stages, worker
from synthgen.dataset.verify import verify
from synthgen.engines import accelerate
from synthgen.errors import RunError, StorageError
from synthgen.images import write_image
from synthgen.pack.counts import RunCounts
from synthgen.recipe import read_recipe
from synthgen.records import seed_of

Tiny = Callable[..., Path]
Cli = Callable[..., Any]
Calls = Callable[[], list[str]]
STAGES = stages.names()


def digest(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of change of everything below a folder: it changes if a file is written again with the same
    bytes."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


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


# kill -9

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


# one recipe, one run folder


@pytest.mark.parametrize(
    ("override", "stage", "said"),
    [
        ("seed=6", "prompts", "seed = 5, the recipe now says 6"),
        ("prompts.lambda_div=0.8", "prompts", "prompts.lambda_div = 0.9, the recipe now says 0.8"),
        ("render.renderer.contrast=0.5", "render", "render.renderer.contrast = 1.0, the recipe now says 0.5"),
        ("refine.apr.beta=0.25", "refine", "refine.apr.beta = 0.5, the recipe now says 0.25"),
        ("filter.scorer.sharpness=2.0", "score", "scorer.sharpness = 1.0, the recipe now says 2.0"),
        ("filter.rules.min_class_fraction=0.1", "filter", "rules.min_class_fraction = 0.02, the recipe now says 0.1"),
        ("pack.jpeg_quality=80", "pack", "jpeg_quality = 95, the recipe now says 80"),
    ],
)
def test_another_recipe_in_the_same_run_folder_is_refused_by_name(
    finished: Path, tiny: Tiny, cli: Cli, override: str, stage: str, said: str
) -> None:
    run = finished
    before = stamps(run)
    for command in ("run", "prompts", "pack"):
        done = cli(command, tiny(), "--set", override)
        assert done.exit_code == 2
        assert done.stderr.splitlines() == [
            f"synthgen: {run / stage}: this run was made with {said}; use another run folder (--run), or --redo "
            f"{stage} to keep the old results "
            "aside and make them again"
        ]
    assert stamps(run) == before


def test_changed_support_set_is_another_recipe(finished: Path, tmp_path: Path, cli: Cli, tiny: Tiny) -> None:
    run = finished
    write_world(tmp_path / "world")
    image, mask = paint("disc", 77)
    write_image(image, tmp_path / "world" / "support" / "images" / "disc_0.png")
    write_image(mask, tmp_path / "world" / "support" / "labels" / "disc_0.png")
    done = cli("run", tiny(support__folder=str(tmp_path / "world" / "support")))
    assert done.exit_code == 2
    assert f"{run / 'refine'}: this run was made with support.folder = " in done.stderr


def test_stage_moved_away_and_made_otherwise_does_not_feed_the_old_later_stages(
    finished: Path, tmp_path: Path, tiny: Tiny, cli: Cli
) -> None:
    run = finished
    (run / "prompts").rename(tmp_path / "prompts")
    done = cli("run", tiny(), "--set", "prompts.lambda_div=0.8")
    assert done.exit_code == 2
    assert f"{run / 'render'}: this run was made with stages_before.prompts = " in done.stderr


def test_redo_filter_with_other_thresholds(
    undisturbed: Path, finished: Path, tiny: Tiny, cli: Cli, calls: Calls
) -> None:
    run = finished
    kept = {name: stamps(run / name) for name in ("prompts", "render", "refine", "score")}
    old = {name: digest(run / name) for name in ("filter", "pack", "dataset")}
    done = cli("run", tiny(), "--redo", "filter", "--set", "filter.rules.min_class_fraction=0.1")
    assert done.exit_code == 0, done.output
    assert {name: stamps(run / name) for name in kept} == kept
    assert calls() == [], "no image is made or looked at again"
    assert {name: digest(run / f"{name}.old-1") for name in old} == old
    assert all(f"kept the old results in {run / name}.old-1" in done.stdout for name in old)
    before, after = Dataset(undisturbed / "dataset").index, Dataset(run / "dataset").index
    assert 0 < after.num_samples < before.num_samples
    assert {row.key for row in after.samples} < {row.key for row in before.samples}
    assert verify(run / "dataset") == []
    assert read_recipe(str(run / lock.LOCK)).filter.rules.min_class_fraction == 0.1, "the lock tells what is there now"
    assert cli("run", run / lock.LOCK).exit_code == 0
    assert cli("run", tiny()).exit_code == 2


def test_redo_is_not_begun_for_a_recipe_that_is_refused(finished: Path, tiny: Tiny, cli: Cli) -> None:
    run = finished
    before = stamps(run)
    for override in ("seed=6", "support.folder=/nowhere"):
        assert cli("run", tiny(), "--redo", "filter", "--set", override).exit_code == 2
    assert cli("run", tiny(), "--redo", "filters").exit_code == 2
    assert stamps(run) == before


def test_ranks_other_than_the_first_set_nothing_aside(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(undisturbed, tmp_path / "run")
    monkeypatch.setenv("RANK", "1")
    assert again.redo(tmp_path / "run", "render") == []
    monkeypatch.setenv("RANK", "0")
    assert len(again.redo(tmp_path / "run", "render")) == len(STAGES)


def test_a_recipe_that_keeps_nothing_is_told(tmp_path: Path, tiny: Tiny, cli: Cli) -> None:
    done = cli(
        "run", tiny(prompts__per_class=1, refine__sabr__enabled=False), "--set", "filter.rules.min_class_fraction=1.0"
    )
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].endswith(
        "no sample passed the filter, nothing to pack; loosen filter.rules or make more images"
    )
    assert not (tmp_path / "runs" / "tiny" / "dataset").exists()


# two ranks of accelerate


def test_ranks_that_come_late_leave_no_gap(
    undisturbed: Path, tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ranks as threads; the second looks for its units when the first could long be at work."""
    here, barrier = threading.local(), threading.Barrier(2, timeout=60)
    see = runner.StageRun.missing

    def late(stage: runner.StageRun) -> list[runner.Unit]:
        if here.rank == 1 and stage.name == "render" and not here.looked:
            here.looked, until = True, time.monotonic() + 1
            while not list(stage.folder.glob("0*")) and time.monotonic() < until:
                time.sleep(0.01)
        return see(stage)

    def wait_for_all(ready: Callable[[], bool] = lambda: True) -> None:
        until = time.monotonic() + 60
        while not ready() and time.monotonic() < until:
            time.sleep(0.01)
        barrier.wait()

    def one_rank(rank: int) -> None:
        here.rank, here.looked = rank, False
        for name in ("prompts", "render"):
            for _ in pipeline.run_stage(recipe, tmp_path / "run", name):
                pass

    recipe = read_recipe(str(tiny()))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(accelerate, "rank", lambda: here.rank)
    monkeypatch.setattr(accelerate, "device", lambda: "cpu")
    monkeypatch.setattr(accelerate, "wait_for_all", wait_for_all)
    monkeypatch.setattr(runner.StageRun, "missing", late)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one_rank, range(2)))
    here.rank = 0
    rows = {folder: stages.stages(folder)["render"].rows() for folder in (tmp_path / "run", undisturbed)}
    assert rows[tmp_path / "run"] == rows[undisturbed]


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
