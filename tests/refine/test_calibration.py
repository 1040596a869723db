from __future__ import annotations

import dataclasses
import itertools
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from segkit.labels import IGNORE
from synthgen.errors import RunError
from synthgen.models import ProposalRequest, Prototypes, SupportShot
from synthgen.models.cosine_maps import of_classes
from synthgen.models.proposers.prototype import PrototypeProposer
from synthgen.records import MaskRecord
from synthgen.refine import calibration, leave_one_out
from synthgen.refine.ape import adapted_prototypes, class_cosines, filter_regions, relabel
from synthgen.refine.calibration import DEFAULTS, Calibration, Thresholds, calibrate, record, recorded
from synthgen.refine.leave_one_out import Case, cases, distinct, iou_grid, left_out_of
from synthgen.refine.prototypes import support_sums
from synthgen.runner import StageRun
from synthgen.settings import Refine

SIZE = 24
ALL_OPEN = Refine.model_validate(
    {
        "apf": {"lambda_apf": "auto", "min_region_px": 3},
        "apr": {"min_cosine": "auto", "min_margin": "auto", "beta": 0.7},
    }
)


NAMES = {0: "ground", 3: "ball", 7: "box"}
COLOURS = {0: (60, 60, 60), 3: (200, 60, 60), 7: (60, 60, 200)}


def shots_of(seed: int, classes: Sequence[int] = (3, 7), per_class: int = 3) -> list[SupportShot]:
    """Squares of a class's colour, each beside one that is rather like it and belongs to the background; noise; a strip
    at the top is unlabelled."""
    rng = np.random.default_rng(seed)
    shots = []
    for k in classes:
        for _ in range(per_class):
            mask = np.zeros((SIZE, SIZE), np.uint8)
            image = np.full((SIZE, SIZE, 3), COLOURS[0], float)
            row, other_row = rng.integers(2, SIZE - 9, 2)
            mask[row : row + 9, 1:10] = k
            image[mask == k] = COLOURS[k]
            image[other_row : other_row + 7, 14:21] = COLOURS[k]
            image[other_row : other_row + 7, 14:21, 1] = rng.integers(120, 200)
            mask[:2] = IGNORE
            noisy = np.clip(image + rng.normal(0, 30, image.shape), 0, 255).astype(np.uint8)
            shots.append(SupportShot(noisy, mask, k))
    return shots


def features_of(image: np.ndarray) -> np.ndarray:
    cells = image.reshape(SIZE // 3, 3, SIZE // 3, 3, 3).mean(axis=(1, 3)) / 255 - 0.5
    grid = np.concatenate([cells, np.full((*cells.shape[:2], 1), 0.3)], axis=-1)
    return np.asarray(grid / np.linalg.norm(grid, axis=-1, keepdims=True), np.float32)


def cases_of(shots: Sequence[SupportShot], wanted: Sequence[int] = (3, 7), background: int | None = 0) -> list[Case]:
    images = distinct(shots)
    features = [features_of(shot.image) for shot in images]
    sums = [support_sums(grid, shot.mask, wanted, background) for grid, shot in zip(features, images, strict=True)]
    grids = {number: features[number] for number in left_out_of(len(images))}
    return list(cases(shots, grids, sums, PrototypeProposer(-1.0), wanted, background, 2, NAMES))


def brute_iou(case: Case, refine: Refine, point: Thresholds, background: int | None) -> float:
    """By the steps of a run, one point at a time."""
    filtered = filter_regions(
        case.coarse,
        case.features,
        case.prototypes,
        lambda_apf=point.lambda_apf,
        min_region_px=refine.apf.min_region_px,
        background=background,
        enabled=refine.apf.enabled,
    ).mask
    own = of_classes(case.prototypes, case.candidates)
    looks = class_cosines(
        case.features, adapted_prototypes(filtered, case.features, own, refine.apr.beta), (SIZE, SIZE)
    )
    mask = relabel(filtered, looks, min_cosine=point.min_cosine, min_margin=point.min_margin)
    judged, found = case.truth != IGNORE, []
    for k in case.scored:
        both, either = (mask == k) & (case.truth == k), ((mask == k) | (case.truth == k)) & judged
        found.append(np.count_nonzero(both) / np.count_nonzero(either))
    return float(np.mean(found))


@pytest.mark.parametrize("background", [0, None])
def test_the_grid_has_what_the_steps_themselves_give_at_every_point(background: int | None) -> None:
    wanted = (3, 7) if background == 0 else (0, 3, 7)
    shots = shots_of(1) if background == 0 else [*shots_of(1), *shots_of(2, (0,), 1)]
    grid = {"lambda_apf": (0.0, 0.8, 0.9, 0.97), "min_cosine": (0.0, 0.8, 0.9), "min_margin": (0.0, 0.2, 0.6)}
    values = set()
    for case in cases_of(shots, wanted, background):
        got = iou_grid(case, ALL_OPEN, grid, background)
        for at in itertools.product(range(4), range(3), range(3)):
            point = Thresholds(*(grid[name][n] for name, n in zip(grid, at, strict=True)))
            assert got[at] == pytest.approx(brute_iou(case, ALL_OPEN, point, background), abs=1e-12)
            values.add(round(float(got[at]), 6))
    assert len(values) > 12, "the thresholds matter on these images"


def test_the_choice_is_the_best_point_and_of_equal_ones_that_nearest_to_the_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = {"lambda_apf": (0.3, 0.6, 0.95), "min_cosine": (0.6, 0.9, 0.97), "min_margin": (0.0, 0.05, 0.1)}
    monkeypatch.setattr(calibration, "VALUES", values)
    asked = cases_of(shots_of(4))
    found = calibrate(asked, ALL_OPEN, 0)
    means = {
        point: round(float(np.mean([brute_iou(case, ALL_OPEN, Thresholds(*point), 0) for case in asked])), 6)
        for point in itertools.product(*values.values())
    }
    default = dataclasses.astuple(DEFAULTS)
    best = [point for point, mean in means.items() if mean == max(means.values())]
    assert len(best) > 1 and means[default] < max(means.values()), "a tie, and not at the defaults"
    nearest = min(best, key=lambda point: round(sum(abs(a - b) for a, b in zip(point, default, strict=True)), 6))
    assert dataclasses.astuple(found.thresholds) == nearest
    assert found.iou == pytest.approx(means[nearest]) and found.default_iou == pytest.approx(means[default])
    assert found.num_cases == len(asked) == 6
    for axis, (name, curve) in enumerate(found.curves.items()):
        for value, iou in curve:
            point = tuple(value if other == axis else nearest[other] for other in range(3))
            assert iou == pytest.approx(means[point]), name


def test_what_the_recipe_fixes_stays_and_the_search_is_at_that_value() -> None:
    refine = ALL_OPEN.model_copy(update={"apr": ALL_OPEN.apr.model_copy(update={"min_cosine": 0.123})})
    found = calibrate(cases_of(shots_of(4)), refine, 0)
    assert found.thresholds.min_cosine == 0.123 and set(found.curves) == {"lambda_apf", "min_margin"}
    off = refine.model_copy(update={"apf": refine.apf.model_copy(update={"enabled": False})})
    assert calibration.open_thresholds(off) == ("min_margin",)
    assert calibration.open_thresholds(Refine()) == () and calibration.numbers(Refine()) == DEFAULTS


def test_whitening_opens_the_thresholds_that_are_not_given() -> None:
    """The defaults are cosines of features as they are."""
    assert calibration.open_thresholds(Refine(whitening=0.3)) == ("lambda_apf", "min_cosine", "min_margin")
    given = Refine.model_validate({"whitening": 0.3, "apf": {"lambda_apf": 0.6}, "apr": {"min_margin": 0.05}})
    assert calibration.open_thresholds(given) == ("min_cosine",)
    assert (given.apf.lambda_apf, given.apr.min_margin, given.apf.min_region_px) == (0.6, 0.05, 64)
    assert Refine.model_validate(given.model_dump()) == given, "the lock's recipe is the same one"
    assert calibration.numbers(Refine(whitening=0.3)) == Thresholds(0.0, 0.0, 0.0), "where nothing can be left out"
    beside = Refine.model_validate({"whitening": 0.3, "apf": {"min_region_px": 9, "enabled": False}})
    assert (beside.apf.min_region_px, beside.apf.lambda_apf, beside.apf.enabled) == (9, "auto", False)


def test_the_image_itself_teaches_nothing_and_is_asked_once_for_each_of_its_classes() -> None:
    prepared: list[list[int]] = []

    class Watching(PrototypeProposer):
        def prepare(self, shots: Sequence[SupportShot], prototypes: Prototypes, background: int | None) -> None:
            prepared.append([id(shot.image) for shot in shots])
            super().prepare(shots, prototypes, background)

        def propose(self, requests: Sequence[ProposalRequest]) -> list[np.ndarray]:
            assert all(request.class_names == tuple(NAMES[k] for k in request.candidates) for request in requests)
            assert all(id(request.image) not in prepared[-1] for request in requests)
            return super().propose(requests)

    shots = shots_of(5)
    both = shots[0].mask.copy()
    both[-5:, -5:] = 7  # the first image serves both classes
    shots[0] = SupportShot(shots[0].image, both, 3)
    shots.append(SupportShot(shots[0].image, both, 7))
    images = distinct(shots)
    assert len(images) == 6
    features = [features_of(shot.image) for shot in images]
    sums = [support_sums(grid, shot.mask, (3, 7), 0) for grid, shot in zip(features, images, strict=True)]
    asked = list(cases(shots, dict(enumerate(features)), sums, Watching(-1.0), (3, 7), 0, 1, NAMES))
    assert len(prepared) == 6 and [case.scored for case in asked[:2]] == [(3,), (7,)] and len(asked) == 7
    changed = [
        SupportShot(shot.image, np.where(n == 2, np.uint8(0), shot.mask), shot.class_id) for n, shot in enumerate(shots)
    ]
    other_sums = [*sums[:2], support_sums(features[2], changed[2].mask, (3, 7), 0), *sums[3:]]
    again = list(cases(shots, {2: features[2]}, other_sums, Watching(-1.0), (3, 7), 0, 1, NAMES))
    np.testing.assert_array_equal(again[0].prototypes.vectors, asked[3].prototypes.vectors)


def test_few_images_are_left_out_of_many_and_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    assert left_out_of(5) == {0, 1, 2, 3, 4}
    monkeypatch.setattr(leave_one_out, "MOST_LEFT_OUT", 4)
    assert left_out_of(10) == {0, 3, 6, 9} and left_out_of(4) == {0, 1, 2, 3}


def test_one_shot_falls_back_to_the_defaults_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = calibrate(cases_of(shots_of(6, per_class=1)), ALL_OPEN, 0)
    assert found == Calibration(DEFAULTS, 0, 0.0, 0.0, {})
    [line] = caplog.messages
    assert "no class is shown by two support images" in line and "lambda_apf 0.6" in line and "\n" not in line
    assert calibrate(cases_of(shots_of(6, (3,), 1), (3,)), ALL_OPEN, 0).num_cases == 0, "a single image"


def test_the_same_support_set_gives_the_same_choice_in_any_order_of_classes() -> None:
    first, again = (calibrate(cases_of(shots_of(8)), ALL_OPEN, 0) for _ in range(2))
    assert first == again
    turned = calibrate(cases_of(shots_of(8)[::-1]), ALL_OPEN, 0)
    assert turned.thresholds == first.thresholds and turned.iou == pytest.approx(first.iou, abs=2e-6)


def claimed(folder: Path, settings: object) -> StageRun:
    folder.mkdir(exist_ok=True)
    (folder / "stage.json").write_text(json.dumps({"settings": settings, "units": []}))
    return StageRun("refine", folder, MaskRecord, None)


def test_the_first_record_holds_and_other_settings_have_their_own(tmp_path: Path) -> None:
    found = calibrate(cases_of(shots_of(8)), ALL_OPEN, 0)
    stage = claimed(tmp_path / "refine", {"seed": 1})
    assert recorded(stage) is None
    assert record(found, stage) == found == recorded(stage)
    late = dataclasses.replace(found, thresholds=Thresholds(0.1, 0.2, 0.3))
    assert record(late, stage) == found, "another worker's arithmetic does not matter"
    assert recorded(claimed(tmp_path / "refine", {"seed": 2})) is None
    assert record(found, StageRun("refine", tmp_path / "none", MaskRecord, None)) == found
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"thresholds": {"lambda_apf": 0.5}, "curves": {}}', '{"curves": 3}'])
def test_a_damaged_record_is_one_line(tmp_path: Path, text: str) -> None:
    stage = claimed(tmp_path / "refine", {"seed": 1})
    record(calibrate([], ALL_OPEN, 0), stage)
    [path] = tmp_path.glob("refine/.calibration-*.json")
    path.write_text(text)
    with pytest.raises(RunError, match=r"is damaged.*remove it and run the same command again") as caught:
        recorded(stage)
    assert "\n" not in str(caught.value)
