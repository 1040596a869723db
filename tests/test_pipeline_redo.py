"""One recipe, one run folder: another recipe is refused, and stages are made again on demand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.stamps import digest, stamps
from doubles.world import paint, write_world

from segkit.shards import Dataset
from synthgen import again, lock, stages
from synthgen.dataset.verify import verify
from synthgen.images import write_image
from synthgen.recipe import read_recipe

Tiny = Callable[..., Path]
Cli = Callable[..., Any]
Calls = Callable[[], list[str]]
STAGES = stages.names()


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
    assert f"{run / 'refine'}: this run was made with other content than support.folder has now" in done.stderr


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
