"""The benchmark of what a set is worth: its commands, its folders, and its rows at a size that shows that it runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.main import get_command

import segtrain.cli
from benchmarks import run, use
from benchmarks.use import Plan

TINY = Plan(seeds=(0, 1), steps=2, held_out=3, network="--encoder resnet18 --decoder-channels 8,8,8,8,8")


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Drawings stand for the generated set."""

    def drawn_set(plan: Plan, setting: str, seed: int) -> Path:
        return use.drawings(plan.place / f"made-{setting.replace('/', '')}-{seed}", 900, 4)

    monkeypatch.setattr(use, "made", drawn_set)
    monkeypatch.setattr(use, "read_index", lambda folder: SimpleNamespace(num_samples=4))
    return dataclasses.replace(TINY, place=tmp_path)


def parsed(words: tuple[str, ...]) -> dict[str, Any]:
    group = get_command(segtrain.cli.app)
    command = group.whole(words[0])  # type: ignore[attr-defined]
    return dict(command.make_context(words[0], [*words[1:], "--out", "x"]).params)


@pytest.mark.parametrize("way", use.WAYS)
def test_every_way_takes_equal_steps_and_the_labelled_drawings_first(plan: Plan, way: str) -> None:
    values = parsed(use.training(plan, "", way, 1, 4).train)
    assert (values["steps"], values["seed"], values["encoder"]) == (2, 1, "resnet18")
    assert str(values["data"][0]) == str(use.few(plan, 5, 1))
    assert values.get("others_first", 0) == (0.5 if way in ("set_first", "ceiling") else 0)


def test_more_shots_hold_fewer_and_seeds_and_truth_share_no_drawing(plan: Plan) -> None:
    def drawn(folder: Path) -> list[bytes]:
        return [path.read_bytes() for path in sorted((folder / "images").iterdir())]

    one, five = drawn(use.few(plan, 1, 0)), drawn(use.few(plan, 5, 0))
    assert len(one) == 20 and five[:20] == one and len(set(five)) == 100
    others = [drawn(use.few(plan, 5, 1)), drawn(use.drawings(plan.place / "exact", 50_000_000, 8))]
    assert not set(five) & {picture for folder in others for picture in folder}


def test_rows(plan: Plan) -> None:
    for setting in ("", "made_1000/"):
        made = {row.name: row for row in use.rows(plan, setting)}
        assert set(made) == set(use.rows_of(setting))
        base = f"use/drawn/{setting}"
        gain = float(made[f"{base}few_plus_synthetic_miou"].value) - float(made[f"{base}few_miou"].value)
        assert (
            made[f"{base}gain_few_plus_synthetic_miou"].value == pytest.approx(gain) and made[f"{base}few_miou"].n == 2
        )
        assert made[f"{base}kept_samples"].value == 4


def test_every_setting_is_measured_by_one_benchmark() -> None:
    names = [name for key, rows in run.BENCHMARKS.items() if key.startswith("benchmarks.use:") for name in rows]
    assert sorted(names) == sorted(name for setting in use.SETTINGS for name in use.rows_of(setting))
    assert len(names) == len(set(names))
