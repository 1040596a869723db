"""The benchmark of CG-Aug and MultiShiftSeg at a size that shows that it runs, and its arithmetic."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import cgaug, cgaug_cost, cgaug_data, cgaug_generation, run, trainings
from benchmarks.masks import CAMVID
from benchmarks.row import Row
from segkit.labels import OUT_OF_DISTRIBUTION
from segkit.masks import read_mask
from segkit.pictures import read_image
from segtrain.cli import app
from synthgen.drawn import street_intruders, streets

TINY = cgaug.Plan(
    seeds=(0,),
    scenes=6,
    pairs=4,
    objects=16,
    test=2,
    base_steps=2,
    base_batch=2,
    steps=4,
    stage1_steps=2,
    batch=2,
    network="--arch Unet --encoder resnet18 --decoder-channels 8,8,8,8,8",
    generated=2,
    camvid_base_steps=2,
    camvid_steps=2,
)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> cgaug.Plan:
    """A tiny plan; its commands run here one after another, not in a process each."""

    def run_here(words: list[str]) -> None:
        done = CliRunner().invoke(app, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output

    monkeypatch.setattr(trainings, "_segtrain", run_here)
    monkeypatch.setattr(trainings.os, "cpu_count", lambda: 1)
    return dataclasses.replace(TINY, place=tmp_path)


def by_name(rows: Iterable[Row]) -> dict[str, float]:
    found = {row.name: row.value for row in rows}
    assert all(isinstance(value, float) for value in found.values())
    return found  # type: ignore[return-value]


def read_pair(folder: Path, stem: str, part: str = "") -> tuple[np.ndarray, np.ndarray]:
    return read_image(folder / f"{part}images" / f"{stem}.png"), read_mask(folder / f"{part}labels" / f"{stem}.png")


def test_training_and_test_kinds_do_not_overlap_and_the_object_is_painted_before_the_weather() -> None:
    assert not set(street_intruders.TRAINING) & set(street_intruders.HELD_OUT)
    kinds = {cgaug_data.intruder(seed, held_out=False) for seed in range(200)}
    assert kinds == set(street_intruders.TRAINING)
    assert {cgaug_data.intruder(seed, held_out=True) for seed in range(200)} == set(street_intruders.HELD_OUT)
    seed = next(n for n in range(cgaug_data.SOURCE_SEED, 10**9) if cgaug_data.weather_of(n) == "fog" and
                cgaug_data.object_of(n).sum() > 60)  # fmt: skip
    coherent, incoherent = (cgaug_data.augmented(seed, kind, 0.0) for kind in ("coherent", "ds_and_ss"))
    inside = coherent.mask == OUT_OF_DISTRIBUTION
    np.testing.assert_array_equal(inside, incoherent.mask == OUT_OF_DISTRIBUTION)
    by_day = cgaug_data.street(seed, "day", cgaug_data.intruder(seed, held_out=False))
    np.testing.assert_array_equal(incoherent.image[inside], by_day.image[inside])
    assert np.abs(coherent.image[inside].astype(int) - by_day.image[inside]).mean() > 10  # fog lies on it too


def test_pairs_are_the_same_street_pixel_on_pixel(tmp_path: Path) -> None:
    folder = cgaug_data.pairs(tmp_path, 8)
    shown = 0
    for path in sorted((folder / "images").iterdir()):
        _, mask = read_pair(folder, path.stem)
        original, original_mask = read_pair(folder, path.stem, "orig_")
        np.testing.assert_array_equal(original, streets.draw(int(path.stem), domain="day").image)
        assert original_mask.max() < len(streets.CLASSES)
        unknown = mask == OUT_OF_DISTRIBUTION
        shown += unknown.any()
        assert (mask == original_mask)[~unknown].mean() > 0.97  # what the object hides too much of is not drawn
    assert shown >= 6


def test_separate_pictures_have_the_weather_or_the_object() -> None:
    seeds = range(cgaug_data.SOURCE_SEED, cgaug_data.SOURCE_SEED + 12)
    for seed in seeds:
        picture = cgaug_data.augmented(seed, "ds_or_ss", 0.0)
        if seed % 2:
            assert not (picture.mask == OUT_OF_DISTRIBUTION).any()
            np.testing.assert_array_equal(picture.image, cgaug_data.street(seed, cgaug_data.weather_of(seed)).image)
        else:
            by_day = cgaug_data.street(seed, "day", cgaug_data.intruder(seed, held_out=False))
            np.testing.assert_array_equal(picture.image, by_day.image)


def test_faults_are_as_frequent_as_they_are_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgaug_data, "warped_image", lambda image, px, seed: image)
    missing, regions, wrong = 0, 0, 0
    seeds = range(cgaug_data.SOURCE_SEED, cgaug_data.SOURCE_SEED + 60)
    for seed in seeds:
        exact = cgaug_data.augmented(seed, "coherent", 0.0)
        faulty = cgaug_data.augmented(seed, "coherent", 0.4)
        np.testing.assert_array_equal(exact.mask, faulty.mask)
        changed = (exact.image != faulty.image).any(axis=2)
        inside = exact.mask == OUT_OF_DISTRIBUTION
        missing += cgaug_data.misses_object(seed, 0.4)
        if inside.any():
            assert cgaug_data.misses_object(seed, 0.4) == (changed[inside].mean() > 0.5)
        cars = exact.mask == streets.CLASSES.index("car")
        if 12 <= cars.sum() <= 0.1 * cars.size:
            regions, wrong = regions + 1, wrong + (changed[cars].mean() > 0.5)
    assert 0.25 < missing / 60 < 0.55 and 0.2 < wrong / regions < 0.6
    assert cgaug_data.augmented(seeds[0], "coherent", 0.0) == cgaug_data.augmented(seeds[0], "coherent", 0.0)


def test_the_three_test_sets_show_the_same_streets(tmp_path: Path) -> None:
    t1, t2, t3 = (cgaug_data.test_set(tmp_path, which, 4, 20) for which in ("t1", "t2", "t3"))
    for stem in sorted(path.stem for path in (t1 / "images").iterdir()):
        (day, shown), (_, without), (weather, also) = (read_pair(folder, stem) for folder in (t1, t2, t3))
        np.testing.assert_array_equal(shown, also)
        assert (shown == OUT_OF_DISTRIBUTION).any() and not (without == OUT_OF_DISTRIBUTION).any()
        assert np.abs(day.astype(int) - weather).mean() > 5


def test_t2_is_asked_for_the_pixels_above_the_threshold_of_t1() -> None:
    words = cgaug.evaluations({"t1": Path("a"), "t2": Path("b"), "t3": Path("c")})
    found = {"t1": {"anomaly": {"unknown": {"threshold": -2.5}}}}
    assert words["t2"](found) == ("--anomaly", "--data", "b", "--alarm-threshold=-2.5")


def test_gains_are_means_of_differences() -> None:
    full = {what: np.array([0.5, 0.7]) for what in cgaug.GAINED}
    rival = {what: np.array([0.4, 0.3]) for what in cgaug.GAINED}
    rows = list(cgaug.gains("g", {"full": full, "energy": rival}, ("energy",)))
    assert [row.name for row in rows] == [f"g/over_energy/{what}" for what in cgaug.GAINED]
    assert (rows[0].value, rows[0].spread, rows[0].n) == (
        pytest.approx(0.25),
        pytest.approx(np.std([0.1, 0.4], ddof=1)),
        2,
    )


def test_the_gate_on_drawn_pairs(tmp_path: Path) -> None:
    found = by_name(cgaug_generation.drawn_gate_rows(tmp_path, 40))
    assert set(found) <= set(cgaug_generation.GATE_ROWS) and len(found) == 4
    assert found["cgaug/gate/drawn_kept_missing"] < found["cgaug/gate/drawn_kept_present"]
    assert found["cgaug/gate/drawn_with_iou"] > 0.3


def test_exact_scores_against_counting_pairs_and_thresholds() -> None:
    rng = np.random.default_rng(0)
    scores, unknown = rng.integers(0, 9, 60).astype(np.float32), rng.random(60) < 0.3
    above = [(a > b) + (a == b) / 2 for a in scores[unknown] for b in scores[~unknown]]
    curve = []
    for threshold in sorted(set(scores.tolist()), reverse=True):
        called = scores >= threshold
        curve.append((called[unknown].mean(), unknown[called].mean(), called[~unknown].mean()))
    ap = sum((recall - before) * precision for (recall, precision, _), before in
             zip(curve, [0.0, *(point[0] for point in curve)], strict=False))  # fmt: skip
    fpr = next(false_rate for recall, _, false_rate in curve if recall >= 0.95)
    assert cgaug_cost.exact_scores(scores, unknown) == pytest.approx((np.mean(above), ap, fpr))


def test_pooled_metrics_are_the_exact_ones() -> None:
    found = by_name(cgaug_cost.metric_rows(3, 2, (64, 128)))
    assert list(found) == list(cgaug_cost.METRIC_ROWS) and found["cgaug/metrics/error"] < 1e-3


@pytest.mark.slow
def test_rows_of_a_tiny_plan_are_those_that_are_listed(plan: cgaug.Plan) -> None:
    rows = list(cgaug.drawn_rows(plan))
    made = by_name(rows)
    assert set(made) == set(run.BENCHMARKS["benchmarks.cgaug:drawn"])
    assert made["cgaug/gain/over_head/ap_t3"] == pytest.approx(made["cgaug/full/ap_t3"] - made["cgaug/head/ap_t3"])
    assert {row.n for row in rows} == {1}
    assert by_name(cgaug.drawn_rows(plan)) == made  # from what was kept
    assert set(by_name(cgaug.selection_rows(plan))) == set(run.BENCHMARKS["benchmarks.cgaug:selection"])


@pytest.mark.slow
@pytest.mark.skipif(not CAMVID.is_dir(), reason="NO CAMVID: set SYNTHGEN_CAMVID; photographs not tried")
def test_photographs_carry_objects_with_exact_masks(plan: cgaug.Plan) -> None:
    t3, dusk = cgaug_data.camvid(plan.place, "t3"), cgaug_data.camvid(plan.place, "t2")
    stem = next(iter(sorted((t3 / "images").iterdir()))).stem
    (image, mask), (plain, plain_mask) = read_pair(t3, stem), read_pair(dusk, stem)
    inside = mask == OUT_OF_DISTRIBUTION
    assert inside.any()
    np.testing.assert_array_equal(image[~inside], plain[~inside])
    np.testing.assert_array_equal(mask[~inside], plain_mask[~inside])
    small = dataclasses.replace(plan, base_batch=4, batch=4)
    assert set(by_name(cgaug.camvid_rows(small))) == set(run.BENCHMARKS["benchmarks.cgaug:camvid"])
