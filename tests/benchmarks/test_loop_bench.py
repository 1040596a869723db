"""The benchmark of the closed loop: its commands, what it compares, and that single seeds are kept."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.main import get_command

import segtrain.cli
import synthgen.cli
from benchmarks import loop, use
from benchmarks.loop import Plan


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Drawings stand for the generated set."""
    sets = dataclasses.replace(use.Plan(), place=tmp_path / "use", seeds=(0, 1))
    monkeypatch.setattr(use, "made", lambda plan, setting, seed: plan.place / f"run-{seed}" / "dataset")
    return Plan(place=tmp_path / "loop", sets=sets, steps=7, choose=2, test=3, images=5)


@pytest.fixture
def called(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What was started; a model's mIoU is that of SCORES, in the order of the seeds."""
    commands: list[tuple[str, ...]] = []

    def call(*words: str) -> None:
        commands.append(words)
        if words[:2] == ("segtrain", "eval"):
            model = Path(words[words.index("--model") + 1])
            name, seed = (model if model.name.startswith("before") else model.parent).name.split("-")
            told = Path(words[words.index("--json") + 1])
            told.parent.mkdir(parents=True, exist_ok=True)
            told.write_text(json.dumps({"miou": SCORES[name][int(seed)]}))

    monkeypatch.setattr(loop, "call", call)
    return commands


SCORES = {"before": (0.5, 0.75), "uniform": (0.625, 0.75), "closed": (0.75, 0.625)}


def test_gains_are_differences_seed_by_seed_and_seeds_are_measured_once(plan: Plan, called) -> None:
    made = {row.name: row for row in loop.rows(plan)}
    assert set(made) == set(loop.ROWS) and all(row.n == 2 for row in made.values())
    assert made["loop/closed_miou"].value == 0.6875 and made["loop/before_miou"].value == 0.625
    assert made["loop/gain_over_before"].value == 0.0625
    assert made["loop/gain_over_before"].spread == pytest.approx(0.2651650429)  # of +0.25 and -0.125, ddof 1
    assert made["loop/gain_over_uniform"].value == 0
    number = len(called)
    assert number == 2 * (1 + 2 + 3)
    assert {row.name: row for row in loop.rows(plan)} == made and len(called) == number
    assert len(list(loop.rows(dataclasses.replace(plan, steps=8)))) == len(made) and len(called) == 2 * number


def test_both_rounds_begin_with_the_same_model_and_differ_in_their_aim_alone(plan: Plan, called) -> None:
    list(loop.rows(plan))
    rounds = [words for words in called if words[1] == "improve" and words[2].endswith("run-1")]
    assert [words[words.index("--power") + 1] for words in rounds] == ["0", "1"]
    alike = []
    for words in rounds:
        values = [*words]
        for flag in ("--power", "--out"):
            values[values.index(flag) + 1] = ""
        alike.append(values)
    assert alike[0] == alike[1] and alike[0][alike[0].index("--model") + 1].endswith("before-1")


def test_the_commands_are_those_of_the_programs(plan: Plan) -> None:
    def parsed(app: Any, name: str, *words: str) -> SimpleNamespace:
        command = get_command(app).whole(name)  # type: ignore[attr-defined]
        return SimpleNamespace(**command.make_context(name, [*words]).params)

    train, *words = loop.first_training(plan, 1)
    first = parsed(segtrain.cli.app, train, *words, "--out", "x")
    assert (first.steps, first.seed, list(first.ratio), len(first.data)) == (7, 1, [1, 1], 2)
    aimed = loop.improvement(plan, 1, 0.5)
    assert aimed[aimed.index("--images") + 1] == "5" and aimed[aimed.index("--rounds") + 1] == "1"
    help_text = {option for word in aimed if word.startswith("--") for option in [word.split("=")[0]]}
    command = get_command(synthgen.cli.app)
    context = command.make_context("synthgen", ["improve", "--help"], resilient_parsing=True)
    improve = command.get_command(context, "improve")  # type: ignore[attr-defined]
    assert help_text <= {spelling for option in improve.params for spelling in option.opts}


def test_chosen_and_tested_drawings_are_others(plan: Plan) -> None:
    chosen, tested = (
        {path.read_bytes() for path in (loop.drawings(plan, name) / "images").iterdir()} for name in ("choose", "test")
    )
    assert (len(chosen), len(tested)) == (2, 3) and not chosen & tested
