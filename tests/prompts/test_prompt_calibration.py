"""Calibration of `lambda_div`: from which texts, and in which words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from doubles.prompt_bank import TWO, MakeRecipe

from synthgen.errors import InputError
from synthgen.images import write_image
from synthgen.prompts import calibration


def test_calibration_of_a_recipe(recipe_with: MakeRecipe) -> None:
    found = calibration.calibrate_recipe(recipe_with(TWO), num_candidates=70, grid=(0.7, 0.9, 0.999))
    assert found.num_candidates == {"cat": 70, "bus": 70}
    assert found.embedder == "word_bag"
    rates = [rate.rate for rate in found.rates]
    assert rates == sorted(rates)
    assert 0 < rates[0] < rates[-1] <= 1


def test_calibration_as_text_names_the_encoder_and_a_suggestion(recipe_with: MakeRecipe) -> None:
    text = calibration.calibration(recipe_with({"classes": ("cat",)}))
    assert "embedder word_bag, 1 classes, 200 candidates each" in text
    assert text.count("<- suggested") == 1


def test_calibration_needs_texts(recipe_with: MakeRecipe, tmp_path: Path) -> None:
    write_image(np.zeros((8, 8, 3), np.uint8), tmp_path / "a.png")
    with pytest.raises(InputError, match="nothing to calibrate"):
        calibration.calibrate_recipe(recipe_with(source={"name": "images", "folder": str(tmp_path)}))


@pytest.mark.parametrize("windows", [None, {"count": 4}])
def test_label_maps_are_no_texts_to_calibrate(
    recipe_with: MakeRecipe, tmp_path: Path, windows: dict[str, int] | None
) -> None:
    for kind, shape in (("images", (8, 8, 3)), ("labels", (8, 8))):
        (tmp_path / kind).mkdir()
        write_image(np.zeros(shape, np.uint8), tmp_path / kind / "a.png")
    with pytest.raises(InputError, match="nothing to calibrate"):
        calibration.calibrate_recipe(
            recipe_with(source={"name": "layouts", "folder": str(tmp_path), "windows": windows})
        )


def test_a_file_of_prompts_and_label_maps_is_calibrated_by_its_prompts(recipe_with: MakeRecipe, tmp_path: Path) -> None:
    write_image(np.zeros((8, 8), np.uint8), tmp_path / "map.png")
    lines: list[dict[str, str]] = [{"prompt": "a cat", "layout": "map.png"}, *({"prompt": f"a cat {n}"} for n in "xyz")]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = calibration.calibrate_recipe(
        recipe_with({"classes": ("cat",)}, source={"name": "file", "path": str(tmp_path / "prompts.jsonl")})
    )
    assert found.num_candidates == {"cat": 3}
