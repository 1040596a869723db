"""Polygons for YOLO: filled as OpenCV fills, they give the mask back to the pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from synthgen.export.outlines import Point, outlines


def _filled(line: list[Point], shape: tuple[int, int]) -> np.ndarray:
    """The pixels on the line, and those inside by counting crossings of a ray;

    written from the rule, not from the code.
    """
    found = np.zeros(shape, dtype=bool)
    steps = []
    for number, (x, y) in enumerate(line):
        to_x, to_y = line[(number + 1) % len(line)]
        length = max(abs(to_x - x), abs(to_y - y))
        assert length == 0 or (abs(to_x - x) in (0, length) and abs(to_y - y) in (0, length)), (
            "a step of the line is neither straight nor diagonal"
        )
        for i in range(length + 1):
            found[y + (to_y - y) * i // max(1, length), x + (to_x - x) * i // max(1, length)] = True
        if y != to_y:
            steps.append((x, y, to_x, to_y))
    inside = np.zeros(shape, dtype=bool)
    for y in range(shape[0]):
        for x in range(shape[1]):
            level = y + 0.25
            crossings = [
                ax + (bx - ax) * (level - ay) / (by - ay)
                for ax, ay, bx, by in steps
                if min(ay, by) < level < max(ay, by)
            ]
            inside[y, x] = sum(crossing > x for crossing in crossings) % 2 == 1
    return found | inside


def _round_trip(mask: np.ndarray) -> None:
    found = np.zeros(mask.shape, dtype=int)
    for line in outlines(mask):
        found += _filled(line, mask.shape)
    np.testing.assert_array_equal(found, mask.astype(int))  # no pixel missing, none twice


@settings(max_examples=120, deadline=None)
@given(npst.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.booleans()))
def test_any_mask_comes_back(mask: np.ndarray) -> None:
    _round_trip(mask)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.9, 0.97])
def test_masks_with_many_holes(share: float) -> None:
    for seed in range(4):
        _round_trip(np.random.default_rng(seed).random((24, 31)) < share)


def test_rings_within_rings() -> None:
    rows, columns = np.indices((25, 25))
    _round_trip(np.maximum(abs(rows - 12), abs(columns - 12)) % 4 < 2)
    _round_trip(np.hypot(rows - 12, columns - 12) % 5 < 3)


def test_a_full_rectangle_has_four_corners() -> None:
    mask = np.zeros((6, 7), dtype=bool)
    mask[1:4, 2:6] = True
    assert sorted(outlines(mask)[0]) == [(2, 1), (2, 3), (5, 1), (5, 3)]
    assert outlines(np.zeros((3, 3), dtype=bool)) == []
