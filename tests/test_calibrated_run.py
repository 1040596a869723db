"""Thresholds that a recipe leaves open, in runs up to the masks with doubles for every model."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.runs import digest

from synthgen import pipeline, stages
from synthgen.errors import RecipeError
from synthgen.recipe import read_recipe
from synthgen.refine.calibration import VALUES, recorded
from synthgen.report.lineage import lineage
from synthgen.report.page import write_report
from synthgen.report.run_rows import read_run

Tiny = Callable[..., Path]
OPEN = ("refine.apf.lambda_apf=auto", "refine.apr.min_cosine=auto", "refine.apr.min_margin=auto")


def run_to_masks(recipe: Path, run: Path, *sets: str) -> Path:
    settings, _ = pipeline.begin(read_recipe(str(recipe), sets), run)
    for name in ("prompts", "render", "refine"):
        for _ in pipeline.run_stage(settings, run, name):
            pass
    return run


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory, world: Path) -> Path:
    """A finished run with open thresholds. Nobody writes into it."""
    from doubles.world import write_recipe

    folder = tmp_path_factory.mktemp("calibrated")
    return run_to_masks(write_recipe(world, folder / "tiny.yaml"), folder / "run", *OPEN)


def test_a_run_keeps_its_choice_and_its_masks_are_those_of_the_chosen_numbers(
    calibrated: Path, tiny: Tiny, tmp_path: Path
) -> None:
    found = recorded(stages.stages(calibrated)["refine"])
    assert found is not None and found.num_cases == 6 and found.iou >= found.default_iou
    assert {name: tuple(value for value, _ in curve) for name, curve in found.curves.items()} == VALUES
    chosen = found.thresholds
    sets = [f"refine.apf.lambda_apf={chosen.lambda_apf}", f"refine.apr.min_cosine={chosen.min_cosine}"]
    fixed = run_to_masks(tiny(), tmp_path / "fixed", *sets, f"refine.apr.min_margin={chosen.min_margin}")
    assert recorded(stages.stages(fixed)["refine"]) is None, "nothing is chosen where all is fixed"
    made = [{k: v for k, v in digest(run / "refine").items() if k.endswith(".png")} for run in (calibrated, fixed)]
    assert made[0] == made[1] and made[0]


def test_a_resumed_run_uses_what_was_chosen_first(
    calibrated: Path, tiny: Tiny, tmp_path: Path, calls: Callable[[], list[str]]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(calibrated, run)
    [path] = run.glob("refine/.calibration-*.json")
    body = json.loads(path.read_text())
    body["thresholds"]["lambda_apf"] = 1.0  # as if another machine had chosen: no region is that like its class
    path.write_text(json.dumps(body))
    lost = sorted(entry for entry in (run / "refine").iterdir() if entry.is_dir())[0]
    shutil.rmtree(lost)
    before = len(calls())
    recipe = read_recipe(str(tiny()), OPEN)
    for _ in pipeline.run_stage(recipe, run, "refine"):
        pass
    rates = json.loads(next(lost.glob("*_class_rates.json")).read_text())
    assert rates and all(counts["num_kept"] == 0 for counts in rates.values())
    assert json.loads(path.read_text()) == body
    asked = [name for name in calls()[before:] if name == "feature_extractor"]
    assert len(asked) == 6 + 1, "six support images, one batch of the unit"


def test_two_workers_make_what_one_makes(calibrated: Path, tiny: Tiny, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(calibrated, run)
    shutil.rmtree(run / "refine")
    for _ in pipeline.run_stage(read_recipe(str(tiny()), [*OPEN, "execution.workers=2"]), run, "refine"):
        pass
    assert digest(run / "refine") == digest(calibrated / "refine")


def test_the_summary_the_card_and_the_report_tell_the_choice(calibrated: Path, tmp_path: Path) -> None:
    stage = stages.stages(calibrated)["refine"]
    found = recorded(stage)
    assert found is not None
    line = stages.modules()["refine"].closing_lines(stage)[0]
    assert line.startswith(f"masks: by the support set lambda_apf {found.thresholds.lambda_apf:g}, min_cosine ")
    assert f"IoU {found.iou:.3f}" in line
    assert pipeline.card_facts(calibrated)["calibrated"] == dataclasses.asdict(found.thresholds)
    page = write_report(calibrated, tmp_path / "page.html").path.read_text(encoding="utf-8")
    section = page.partition('id="calibration"')[2].partition("</section>")[0]
    cells = re.findall(r'<td class="n">(.*?)</td>', section)
    assert cells == [f"{iou:.4f}" for curve in found.curves.values() for _, iou in curve]
    marked = re.findall(r"<strong>(\S+) \(chosen\)</strong>", section)
    assert [float(value) for value in marked] == [getattr(found.thresholds, name) for name in found.curves]


def test_one_shot_holds_to_the_defaults_and_says_so(tiny: Tiny, tmp_path: Path) -> None:
    run = run_to_masks(tiny(support__shots=1), tmp_path / "run", *OPEN)
    stage = stages.stages(run)["refine"]
    line = stages.modules()["refine"].closing_lines(stage)[0]
    assert line.endswith("nothing can be left out: lambda_apf 0.6, min_cosine 0.6, min_margin 0.05 by default")
    assert "so nothing could be left out" in write_report(run, tmp_path / "page.html").path.read_text("utf-8")


def test_a_lambda_div_that_could_not_be_chosen_is_told_by_summary_and_report(tiny: Tiny, tmp_path: Path) -> None:
    """The tiny grammar words nothing twice."""
    run = run_to_masks(tiny(), tmp_path / "run", "prompts.lambda_div=auto")
    [line] = stages.modules()["prompts"].closing_lines(stages.stages(run)["prompts"])
    assert line.endswith("(the source gave 0 of them): lambda_div 0.85 by default")
    page = write_report(run, tmp_path / "page.html").path.read_text("utf-8")
    assert line in page
    found = read_run(run)
    told = [value for row in found.images for step in lineage(found, row) for _, value in step.facts]
    assert any(value.endswith(", must be below 0.85") for value in told)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("refine.apf.lambda_apf=Auto", "refine.apf.lambda_apf: Input should be a number from -1 to 1, or auto"),
        ("refine.apr.min_margin=2.1", "refine.apr.min_margin: Input should be a number from 0 to 2, or auto"),
        ("refine.apr.min_cosine=-1.01", "refine.apr.min_cosine: Input should be a number from -1 to 1, or auto"),
        ("refine.apr.min_cosine=[1]", "refine.apr.min_cosine: Input should be a number from -1 to 1, or auto"),
        ("prompts.lambda_div=automatic", "prompts.lambda_div: Input should be a number from -1 to 1, or auto"),
    ],
)
def test_a_value_that_is_neither_is_refused_in_one_line(tiny: Tiny, override: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(str(tiny()), [override])
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_proposer_that_needs_label_maps_cannot_choose(tiny: Tiny) -> None:
    recipe = read_recipe(str(tiny()), [*OPEN, "refine.proposer={name: layout}"])
    with pytest.raises(
        RecipeError, match="lambda_apf is auto, but the proposer 'layout' labels only what was"
    ) as caught:
        stages.settings(recipe, "refine")
    assert "\n" not in str(caught.value)
    stages.settings(read_recipe(str(tiny()), ["refine.proposer={name: layout}"]), "refine")


def test_numbers_are_kept_as_they_were(tiny: Tiny) -> None:
    recipe: Any = read_recipe(str(tiny()), ["refine.apf.lambda_apf=1", "refine.apr.min_margin='0.1'"])
    assert repr(recipe.refine.apf.lambda_apf) == "1.0" and recipe.refine.apr.min_margin == 0.1
    assert recipe.model_dump(mode="json")["refine"]["apf"]["lambda_apf"] == 1.0
