"""lambda_div from the embedder's own paraphrases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.errors import RecipeError
from synthgen.prompts import stage
from synthgen.prompts.bank import Candidate
from synthgen.prompts.coverage import COVERAGE, coverage_of, coverage_text
from synthgen.prompts.paraphrases import DEFAULT, LEAST_ACCURACY, LEAST_PARAPHRASES, paraphrases, parted
from synthgen.recipe import Recipe
from synthgen.records import PromptRecord

Make = Callable[..., Recipe]
GRAMMAR = """
name: two ways
templates: ["{a} {colour} {class} {place} at {hour}", "at {hour} {a} {colour} {class} {place}"]
slots:
  colour: [red, green, blue, white]
  place: [on sand, on snow, in water]
  hour: [noon, dusk, night]
"""


def said(text: str, *attributes: str) -> Candidate:
    return Candidate(text, "cat", 8, attributes)


def test_pairs_are_different_sentences_with_the_same_attributes() -> None:
    candidates = [
        said("a", "x=1"), said("b"), said("c"), said("a", "x=1"), said("d", "x=2"), said("e", "x=1"),
        said("f", "x=1"), said("g", "x=2"), said("h", "x=3"), said("i", "x=3"),
    ]  # fmt: skip
    assert [(a.prompt, b.prompt) for a, b in paraphrases(candidates, 9)] == [("a", "e"), ("d", "g"), ("h", "i")]
    assert len(paraphrases(candidates, 2)) == 2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(60, 100), min_size=8, max_size=30), st.lists(st.integers(0, 90), min_size=1, max_size=40))
def test_no_other_cosine_parts_the_pairs_better(same: list[int], other: list[int]) -> None:
    ones, others = np.array(same) / 100, np.array(other) / 100

    def accuracy(cosine: float) -> float:
        return (sum(one >= cosine for one in ones) / len(ones) + sum(one < cosine for one in others) / len(others)) / 2

    found = parted(ones, others)
    best = max(accuracy(n / 200) for n in range(-1, 203))
    if found.is_default:
        assert found.lambda_div == DEFAULT and best < LEAST_ACCURACY + 1e-9
        return
    assert accuracy(found.lambda_div) == pytest.approx(best) and best >= LEAST_ACCURACY - 1e-9
    assert found.paraphrases_caught == pytest.approx(np.mean(ones >= found.lambda_div))
    assert found.others_kept == pytest.approx(np.mean(others < found.lambda_div))


def test_of_equally_good_ones_the_middle_of_the_widest_gap() -> None:
    assert parted(np.full(9, 0.96), np.array([0.1, 0.2, 0.5])).lambda_div == pytest.approx(0.73)


def test_what_cannot_be_told_holds_to_the_default() -> None:
    few = parted(np.ones(LEAST_PARAPHRASES - 1), np.zeros(9))
    mixed = parted(np.linspace(0, 1, 50), np.linspace(0, 1, 50))
    for found in (few, mixed, parted(np.ones(9), np.zeros(0)), parted(np.ones(9), np.ones(9))):
        assert (
            found.is_default and found.lambda_div == DEFAULT and "by default" in found.text and "\n" not in found.text
        )


@pytest.fixture
def grammar(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "two_ways.yaml"
    path.write_text(GRAMMAR)
    return {"name": "grammar", "vocabulary": str(path)}


def run(recipe: Recipe, folder: Path) -> list[PromptRecord]:
    folder.mkdir(parents=True)
    rows = stage.build(recipe, folder.parent.parent).process([], folder, "00000")
    return [row for row in rows if isinstance(row, PromptRecord)]


def test_with_auto_a_bank_refuses_paraphrases_and_nothing_else(
    recipe_with: Make, grammar: dict[str, Any], tmp_path: Path
) -> None:
    """Words in another order are the same to a bag of words, so the embedder tells the two kinds apart entirely."""
    labels = {"classes": ("cat", "bus")}
    recipe = recipe_with(labels, source=grammar, per_class=36, budget_per_class=200, lambda_div="auto")
    folder = tmp_path / "prompts" / "00000"
    made = run(recipe, folder)
    scenes = [(row.subject.class_name, row.subject.attributes) for row in made]
    assert len(scenes) == len(set(scenes)) == 2 * 4 * 3 * 3
    coverage = coverage_of((folder / COVERAGE).read_text())
    chosen = coverage.chosen
    assert chosen is not None and coverage.lambda_div == chosen.lambda_div and not chosen.is_default
    assert chosen.paraphrases_caught == chosen.others_kept == 1
    assert chosen.text in coverage_text(coverage)
    fixed = recipe_with(labels, source=grammar, per_class=36, budget_per_class=200, lambda_div=chosen.lambda_div)
    assert run(fixed, tmp_path / "fixed" / "prompts" / "00000") == made
    told = (tmp_path / "fixed" / "prompts" / "00000" / COVERAGE).read_text()
    assert "chosen" not in told and coverage_of(told).chosen is None


def test_a_source_without_attributes_is_refused_in_one_line(recipe_with: Make, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a cat\n")
    recipe = recipe_with({"classes": ("cat",)}, source={"name": "file", "path": str(path)}, lambda_div="auto")
    with pytest.raises(RecipeError, match=r"^prompts\.lambda_div is auto, but the source 'file'") as caught:
        stage.settings(recipe)
    assert "\n" not in str(caught.value)
