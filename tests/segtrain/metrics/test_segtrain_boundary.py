"""Boundary F against a search over all pairs of pixels."""

from __future__ import annotations

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segtrain.metrics.boundary import boundary_f, mean_of_images, tolerance_px


def boundary_by_hand(mask: np.ndarray, truth: np.ndarray) -> list[tuple[int, int]]:
    height, width = mask.shape
    places = []
    for y in range(height):
        for x in range(width):
            near = [(y, x + 1), (y, x - 1), (y + 1, x), (y - 1, x)]
            inside = [(v, u) for v, u in near if 0 <= v < height and 0 <= u < width and truth[v, u] < 254]
            if mask[y, x] and truth[y, x] < 254 and any(not mask[v, u] for v, u in inside):
                places.append((y, x))
    return places


def f_by_hand(prediction: np.ndarray, truth: np.ndarray, ids: list[int], tolerance: float) -> float | None:
    scores = []
    for class_id in ids:
        if not (truth == class_id).any():
            continue
        ours, theirs = (boundary_by_hand(mask == class_id, truth) for mask in (prediction, truth))
        if not ours and not theirs:
            continue
        hits = [
            sum(any(math.dist(a, b) <= tolerance for b in others) for a in some)
            for some, others in ((ours, theirs), (theirs, ours))
        ]
        precision = hits[0] / len(ours) if ours else 0
        recall = hits[1] / len(theirs) if theirs else 0
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return sum(scores) / len(scores) if scores else None


@hypothesis.settings(max_examples=60, deadline=None)
@given(st.integers(1, 14), st.integers(1, 14), st.integers(0, 10_000), st.sampled_from([1.0, 1.5, 2.0, 2.9, 5.0]))
def test_against_all_pairs_of_pixels(height: int, width: int, seed: int, tolerance: float) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 3, 7, 254, 255], size=(height, width), p=[0.4, 0.25, 0.2, 0.05, 0.1]).astype(np.uint8)
    prediction = np.where(rng.random((height, width)) < 0.6, truth, rng.choice([0, 3, 7, 255], size=(height, width)))
    ids = [0, 3, 7, 9]
    got, expected = boundary_f(prediction.astype(np.uint8), truth, ids, tolerance), None
    expected = f_by_hand(prediction, truth, ids, tolerance)
    assert got == (None if expected is None else pytest.approx(expected))


def square(top: int, left: int, size: int = 40) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[top : top + 12, left : left + 12] = 1
    return mask


@pytest.mark.parametrize(
    ("down", "right", "tolerance", "reached"),
    [(3, 0, 3.0, True), (3, 0, 2.9, False), (3, 3, 4.3, True), (3, 3, 4.2, False), (3, 3, 3.0, False)],
)
def test_the_tolerance_is_euclidean_and_inclusive(down: int, right: int, tolerance: float, reached: bool) -> None:
    """A pixel moved by (3, 3) is 4.24 px away: a square of 3 px to each side would reach it, a disc does not."""
    one, other = np.zeros((2, 40, 40), np.uint8)
    one[10, 10] = other[10 + down, 10 + right] = 1
    assert boundary_f(other, one, [1], tolerance) == float(reached)


def test_what_nobody_has_labelled_makes_no_boundary() -> None:
    """The truth ends at the unlabelled half; a prediction that goes on there is right as far as anybody knows."""
    truth = square(10, 10)
    truth[:, 16:] = 255
    assert boundary_f(square(10, 10), truth, [0, 1], 1.0) == 1
    assert boundary_f(square(10, 4), truth, [1], 1.0) < 1


def test_the_edge_of_the_image_is_no_boundary() -> None:
    truth = np.zeros((10, 10), np.uint8)
    truth[:, 5:] = 1
    assert boundary_f(truth, truth, [0, 1], 1.0) == 1
    assert boundary_f(np.ones_like(truth), truth, [1], 1.0) == 0, "no boundary predicted where there is one"
    assert boundary_f(truth, np.ones_like(truth), [1], 1.0) == 0, "one predicted where there is none"


def test_nothing_to_score_is_none() -> None:
    full = np.ones((10, 10), np.uint8)
    assert boundary_f(full, full, [0, 1], 1.0) is None
    assert boundary_f(full, np.full_like(full, 255), [0, 1], 1.0) is None
    assert mean_of_images([None, None]) is None
    assert mean_of_images([0.5, None, 1.0]) == 0.75


def test_the_tolerance_is_075_percent_of_the_diagonal_and_a_pixel_at_least() -> None:
    assert tolerance_px((360, 480)) == pytest.approx(4.5)
    assert tolerance_px((64, 64)) == 1
    assert tolerance_px((1024, 2048)) == pytest.approx(0.0075 * math.hypot(1024, 2048))
