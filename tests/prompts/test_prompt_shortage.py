"""What is told of a bank that stays short, and why."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from doubles.prompt_bank import TWO, MakeRecipe, run

from synthgen.errors import InputError
from synthgen.images import write_image


def test_a_bank_that_stays_short_is_told_in_one_line(
    recipe_with: MakeRecipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(
        recipe_with(TWO, render={"renderer": {"name": "sd3"}}, per_class=9, lambda_div=0.3, budget_per_class=20),
        tmp_path / "unit",
    )
    (line,) = [record.getMessage() for record in caplog.records if "fewer" in record.getMessage()]
    assert line.startswith("prompts: fewer than 9 for cat 1 (budget), bus 1 (budget) at lambda_div 0.3 (")
    assert line.endswith("see `synthgen prompts --calibrate`")
    *_, (value, cat, bus) = re.findall(r"([\d.]+) passes cat (\d+) of 20, bus (\d+) of 20", line)
    assert min(int(cat), int(bus)) >= 9
    again, _ = run(recipe_with(TWO, per_class=20, lambda_div=float(value), budget_per_class=20), tmp_path / "again")
    accepted = Counter(row.subject.class_name for row in again)
    assert accepted == {"cat": int(cat), "bus": int(bus)}, "what the line promises comes true"


def test_a_class_that_the_source_never_names_is_told_too(
    recipe_with: MakeRecipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"prompt": "a photo of a cat", "class_name": "cat"}) + "\n")
    run(recipe_with(TWO, source={"name": "file", "path": str(path)}, per_class=9), tmp_path / "unit")
    (line,) = [record.getMessage() for record in caplog.records if "fewer" in record.getMessage()]
    assert line.startswith("prompts: fewer than 9 for cat 1 (exhausted), bus 0 (exhausted)")


def test_a_shortage_that_no_lambda_mends_promises_nothing(
    recipe_with: MakeRecipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(
        recipe_with(TWO, render={"renderer": {"name": "sd3"}}, per_class=9, lambda_div=1.0, budget_per_class=4),
        tmp_path / "unit",
    )
    (line,) = [record.getMessage() for record in caplog.records if "fewer" in record.getMessage()]
    assert line == "prompts: fewer than 9 for cat 4 (budget), bus 4 (budget); see `synthgen prompts --calibrate`"


@pytest.mark.parametrize("limit", [{"per_class": 2}, {"budget_per_class": 2}])
def test_files_that_stand_behind_a_full_quota_or_a_spent_budget_are_taken(
    recipe_with: MakeRecipe, tmp_path: Path, limit: dict[str, int]
) -> None:
    path = tmp_path / "prompts.jsonl"
    write_image(np.zeros((8, 8, 3), np.uint8), tmp_path / "photo.png")
    write_image(np.zeros((8, 8), np.uint8), tmp_path / "map.png")
    texts = ("a cat on red grass", "one kitten far from here", "an old cat sits", "two cats play")
    lines: list[dict[str, str]] = [{"prompt": text, "class_name": "cat"} for text in texts]
    lines += [{"photograph": "photo.png", "class_name": "cat"}, {"prompt": "a cat", "layout": "map.png"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = {"name": "file", "path": str(path)}
    made, _ = run(recipe_with({"classes": ("cat",)}, source=source, lambda_div=0.999, **limit), tmp_path / "unit")
    assert {row.subject.prompt for row in made} == {*texts[:2], "", "a cat"}
    assert {row.photograph for row in made} == {"", "photo.png"}


def test_a_bank_in_which_everything_was_refused_is_an_error_with_the_reasons(
    recipe_with: MakeRecipe, tmp_path: Path
) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        "".join(
            json.dumps({"prompt": p, "class_name": "cat"}) + "\n"
            for p in ("a dog", "a hen", "far from here sat one small odd kitten")
        )
    )
    recipe = recipe_with({"classes": ("cat",)}, source={"name": "file", "path": str(path)}, min_class_similarity=0.95)
    with pytest.raises(
        InputError, match=r"every candidate was refused \(class_missing 2, off_class 1\).*min_class_similarity"
    ):
        run(recipe, tmp_path / "unit")
