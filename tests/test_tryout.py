"""`synthgen doctor --try`: the recipe's own stages on two prompts, and plans that know what was measured."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthgen import tryout
from synthgen.classes import wanted_classes
from synthgen.dry_run import dry_run, plan_text
from synthgen.errors import RunError
from synthgen.images import read_image
from synthgen.labels import read_label_space
from synthgen.planning import measured
from synthgen.planning.machine import Gpu, Machine
from synthgen.prompts import stage
from synthgen.recipe import read_recipe

Cli = Callable[..., Any]
HERE = Machine("Linux x86_64", "3.11", 2, 500.0, (), {}, False, False, (), {})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tryout.tempfile, "tempdir", str(tmp_path))


def test_a_try_makes_an_image_and_a_mask_and_the_plan_knows_the_seconds(
    cli: Cli, tiny: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = tiny()
    done = cli("doctor", recipe, "--try")
    assert done.exit_code == 0, (done.output, done.exception)
    lines = [line.split() for line in done.stdout.splitlines()]
    images, masks = ([Path(words[1]) for words in lines if words[0] == kind] for kind in ("image", "mask"))
    assert 2 <= len(masks) <= len(images) <= tryout.UNITS * read_recipe(str(recipe)).execution.batch_size
    assert read_image(images[0]).shape[:2] == (32, 32) and len(np.unique(read_image(images[0]))) > 2
    assert {words[0] for words in lines} >= {"prompts", "render", "refine", "score", "memory"}
    (kept,) = (tmp_path / "cache" / "synthgen" / "tries").iterdir()
    found = json.loads(kept.read_text())
    assert set(found["seconds"]) == {"render", "refine", "score"} and found["memory_gb"] > 0.1

    again = json.loads(cli("run", recipe, "--dry-run", "--json", "--trust").stdout)
    assert again["measured"]["seconds"] == found["seconds"]
    plan = cli("run", recipe, "--dry-run", "--trust").stdout
    assert "with one worker (measured here on CPU of" in plan and "an estimate, not a measurement" not in plan


def test_what_was_measured_holds_for_the_same_work_on_the_same_device_alone(tiny: Callable[..., Path]) -> None:
    recipe = read_recipe(str(tiny()), ["execution.device=auto"])
    gpu = dataclasses.replace(HERE, gpus=(Gpu("NVIDIA H100", 80.0),))
    seconds = {"render": 2.0, "refine": 0.5, "score": 0.5}
    found = measured.Measured("2026-11-27", "NVIDIA H100", seconds, {"prompts": 60.0}, {"render": 10.0}, 8.0)
    measured.save(found, recipe, gpu)
    assert measured.find(recipe, gpu) == found
    assert measured.find(recipe, HERE) is None, "another device"
    more = read_recipe(str(tiny()), ["execution.device=auto", "prompts.per_class=500"])
    assert measured.find(more, gpu) == found, "more of the same"
    for other in ("render.height_px=128", "execution.batch_size=3", "render.renderer={name: images}"):
        assert measured.find(read_recipe(str(tiny()), ["execution.device=auto", other]), gpu) is None, other

    plan = dry_run(recipe, Path("runs/none"), gpu)
    images = next(stage.rows for stage in plan.stages if stage.name == "render")
    assert images and plan.measured_hours == pytest.approx((3.0 * images + 60.0) / 3600)
    assert plan.gpu_memory_gb == pytest.approx(10 * 2**30 / 1e9)
    assert "measured here on NVIDIA H100, 2026-11-27: render 2 s, refine 0.5 s, score 0.5 s an image" in plan_text(plan)


def test_a_file_that_cannot_be_read_is_no_measurement(tiny: Callable[..., Path]) -> None:
    recipe = read_recipe(str(tiny()))
    found = measured.Measured("2026-11-27", "x", {}, {}, {}, 1.0)
    path = measured.save(found, recipe, HERE)
    assert measured.find(recipe, HERE) == found and not found.is_whole
    assert dry_run(recipe, Path("runs/none"), HERE).measured_hours is None
    for text in ("{", "[]", '{"at": 3}'):
        path.write_text(text)
        assert measured.find(recipe, HERE) is None


def test_a_recipe_with_quotas_and_an_earlier_bank_is_tried_on_a_class_that_it_asks_for(
    tiny: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = read_recipe(str(tiny()))
    first, second, *_ = (label.name for label in wanted_classes(recipe, read_label_space(recipe.labels.space)))
    (tmp_path / "earlier.tsv").write_text(f"{first}\ta photo of it\n{second}\ta photo of it\n")
    given = [f"prompts.quotas={{{first}: 0, {second}: 9}}", f"prompts.apart_from={tmp_path / 'earlier.tsv'}"]
    small = tryout._small(read_recipe(str(tiny()), given), 2)
    (label,) = wanted_classes(small, read_label_space(small.labels.space))
    assert label.name == second and small.prompts.quota(second) == tryout.UNITS * 2
    stage.build(small, tmp_path)


def test_a_try_needs_a_recipe_that_renders(cli: Cli) -> None:
    said = cli("doctor", "--try")
    assert said.exit_code == 2 and "name the recipe" in said.stderr
    with pytest.raises(RunError, match="renders nothing"):
        tryout.try_recipe(read_recipe("label-photos"), HERE)
