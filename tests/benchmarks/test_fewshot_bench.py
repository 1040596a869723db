"""The arithmetic of the few-shot rows: means over folds first, then differences seed by seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import fewshot
from benchmarks.fewshot import Plan

SCORES = {  # (variant, fold, seed) -> novel
    ("none", 0, 0): 0.2, ("none", 1, 0): 0.4, ("none", 0, 1): 0.5, ("none", 1, 1): 0.7,
    ("first", 0, 0): 0.4, ("first", 1, 0): 0.6, ("first", 0, 1): 0.5, ("first", 1, 1): 0.5,
}  # fmt: skip


def test_the_gain_of_the_set_first_is_over_a_none_of_the_same_shots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(place=tmp_path, folds=(0, 1), shots=(5,), seeds=(0, 1))
    monkeypatch.setattr(fewshot, "_draw", lambda plan: None)
    monkeypatch.setattr(fewshot, "_base", lambda plan, fold: 0.0)

    def measured(plan: Plan, fold: int, seed: int, shots: int, variant: str) -> dict[str, float]:
        return dict.fromkeys(fewshot.MEASURES, SCORES[variant, fold, seed])

    monkeypatch.setattr(fewshot, "_measured", measured)
    made = {row.name: row for row in fewshot.first_rows(plan)}
    assert set(made) == {name for name in fewshot.FIRST_ROWS if "/5shot/" in name}
    assert made["gfss/5shot/first/novel"].value == pytest.approx(0.5)
    gain = made["gfss/5shot/gain_first/novel"]
    assert gain.value == pytest.approx((0.2 - 0.1) / 2) and gain.n == 2
    assert gain.spread == pytest.approx(0.3 / 2**0.5)


def test_the_set_comes_first_in_that_variant_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    scores = type("S", (), {"few_shot": [type("D", (), dict.fromkeys(fewshot.MEASURES, 0.5) | {"convention": "diam"})]})
    monkeypatch.setattr(fewshot, "_support", lambda *given: tmp_path / "support")
    monkeypatch.setattr(fewshot, "_synthetic", lambda plan, fold, seed, shots, variant: tmp_path / "made")
    monkeypatch.setattr(fewshot, "learn_novel", lambda config: asked.setdefault(config.out.name, config))
    monkeypatch.setattr(fewshot, "evaluate", lambda out, data: scores)
    monkeypatch.setattr(fewshot.shutil, "rmtree", lambda out: None)
    for variant in ("none", "sabr", "first"):
        fewshot._measured(Plan(place=tmp_path), 0, 0, 5, variant)
    by_variant = {name.split("-")[1]: config for name, config in asked.items()}
    assert {name: config.synthetic_first for name, config in by_variant.items()} == {
        "none": 0.0, "sabr": 0.0, "first": 0.5,
    }  # fmt: skip
    assert by_variant["sabr"].synthetic == by_variant["first"].synthetic and not by_variant["none"].synthetic
