"""The benchmark of FLEX-Seg at a size that shows that it runs, and its arithmetic."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from benchmarks import flexseg, flexseg_data, run
from benchmarks.row import Row
from synthgen.drawn import streets
from synthgen.drawn.split import write_split

TINY = flexseg.Plan(
    seeds=(0,),
    scenes=4,
    windows=2,
    test=2,
    steps=2,
    warped_steps=2,
    batch=2,
    network="--encoder resnet18 --decoder-channels 8,8,8,8,8",
)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> flexseg.Plan:
    """A tiny plan; drawings stand for the generated pictures."""
    monkeypatch.setattr(flexseg_data, "generated", lambda plan: flexseg_data.weather(plan, 0))
    return dataclasses.replace(TINY, place=tmp_path)


def test_measures_are_those_of_the_docstring() -> None:
    domains = [
        {"name": name, "miou": value, "boundary_error": value / 2, "interior_error": value / 4}
        for name, value in zip(("day", "night", "fog", "rain", "snow"), (0.9, 0.1, 0.2, 0.3, 0.4), strict=True)
    ]
    found = flexseg.measures(domains)
    assert found["adverse"] == pytest.approx(0.25)
    assert found["avg2"] == pytest.approx((0.1 + 0.25) / 2)
    assert found["avg5"] == pytest.approx(0.38)
    assert (found["boundary"], found["interior"]) == pytest.approx((0.125, 0.0625))


def test_a_warp_moves_by_the_length_that_is_asked_for() -> None:
    height, width = 64, 96
    rows, columns = np.indices((height, width))
    ramp = np.stack([rows * 2, columns * 2, columns * 0], axis=-1).astype(np.uint8)
    moved = flexseg_data.warped_image(ramp, 3.0, seed=5).astype(float) / 2
    inner = np.s_[10:-10, 10:-10]
    length = np.hypot(moved[..., 0] - rows, moved[..., 1] - columns)[inner]
    assert 1.5 < np.sqrt((length**2).mean()) < 4.5
    assert np.array_equal(flexseg_data.warped_image(ramp, 3.0, seed=5), flexseg_data.warped_image(ramp, 3.0, seed=5))
    assert not np.array_equal(
        flexseg_data.warped_image(ramp, 3.0, seed=6), flexseg_data.warped_image(ramp, 3.0, seed=5)
    )
    gradient = map_coordinates(length, np.indices((5, 5)) + 20, order=1)
    assert np.ptp(gradient) < 1.5  # smooth: neighbours move alike


@pytest.mark.slow
def test_rows_of_a_tiny_plan_are_those_that_are_listed(plan: flexseg.Plan) -> None:
    made = {row.name: row for row in flexseg.drawn_rows(plan)}
    assert list(made) and set(made) == set(run.BENCHMARKS["benchmarks.flexseg:drawn"])
    gain = made["flexseg/gain/all_adverse"]
    plain, everything = made["flexseg/plain_adverse"], made["flexseg/all_adverse"]
    assert gain.value == pytest.approx(number(everything) - number(plain))
    assert gain.n == 1
    again = {row.name: row for row in flexseg.drawn_rows(plan)}  # from what was kept
    assert again == made


def test_the_test_set_has_each_layout_in_every_weather_with_one_mask(plan: flexseg.Plan) -> None:
    folder = flexseg_data.test(plan.place, plan.first_test_seed, plan.test)
    lines = dict(line.split("\t") for line in (folder / "domains.txt").read_text(encoding="utf-8").splitlines())
    assert sorted(lines.values()) == sorted(streets.DOMAINS * 2)
    masks = {(folder / "labels" / f"{flexseg.TEST_SEED}_{domain}.png").read_bytes() for domain in streets.DOMAINS}
    assert len(masks) == 1
    write_split(folder.parent / "one", "streets", 1, flexseg.TEST_SEED, domain="day")
    [image] = (folder.parent / "one" / "images").iterdir()
    assert image.read_bytes() == (folder / "images" / f"{flexseg.TEST_SEED}_day.png").read_bytes()


@pytest.mark.slow
def test_costs_are_measured_at_a_tiny_size(plan: flexseg.Plan) -> None:
    rows = {row.name: row for row in flexseg.cost_rows(plan, steps=(2, 6), rounds=2, images=1000)}
    assert set(rows) == set(run.BENCHMARKS["benchmarks.flexseg:cost"])


def number(row: Row) -> float:
    assert isinstance(row.value, float)
    return row.value
