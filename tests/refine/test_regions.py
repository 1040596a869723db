from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from synthgen.refine.regions import band_radius, boundary_band, box_window, edge_of, padded_boxes


@settings(max_examples=60, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 10), st.integers(1, 10))), st.integers(1, 3))
def test_the_band_is_what_lies_near_an_edge_pixel(region: np.ndarray, radius: int) -> None:
    height, width = region.shape
    edge = [
        (y, x)
        for y in range(height)
        for x in range(width)
        if region[y, x]
        and any(
            0 <= y + dy < height and 0 <= x + dx < width and not region[y + dy, x + dx]
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
        )
    ]
    expected = np.array(
        [[any(max(abs(y - v), abs(x - u)) <= radius for v, u in edge) for x in range(width)] for y in range(height)]
    )
    assert set(map(tuple, np.argwhere(edge_of(region)).tolist())) == set(edge)
    band = boundary_band(region, radius)
    assert band.dtype == bool
    np.testing.assert_array_equal(band, expected)


@pytest.mark.parametrize(("size", "expected"), [((64, 64), 2), ((512, 900), 5), ((1024, 1024), 10)])
def test_the_band_follows_the_shorter_side(size: tuple[int, int], expected: int) -> None:
    assert band_radius(size, 0.01, 2) == expected


def test_boxes_are_padded_by_their_own_sides_and_clipped() -> None:
    boxes = np.array([[10, 20, 30, 60], [0, 0, 100, 10]])
    padded = padded_boxes(boxes, 0.05, (80, 100))
    np.testing.assert_allclose(padded, [[9, 18, 31, 62], [0, 0, 100, 10.5]], atol=1e-5)
    assert box_window(padded[1]) == (slice(0, 11), slice(0, 100))
