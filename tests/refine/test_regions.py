from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segkit.labels import IGNORE
from synthgen.refine.regions import (
    band_radius,
    boundary_band,
    box_window,
    connected_components,
    drop_small,
    edge_of,
    padded_boxes,
)

small_masks = arrays(
    np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 1, 2, IGNORE])
)


def flood(mask: np.ndarray) -> list[tuple[int, frozenset[tuple[int, int]]]]:
    """Components by flood fill over the eight neighbours: slow and plain."""
    height, width = mask.shape
    seen: set[tuple[int, int]] = set()
    found = []
    for start in [(y, x) for y in range(height) for x in range(width)]:
        if start in seen or mask[start] == IGNORE:
            continue
        stack, members = [start], {start}
        while stack:
            y, x = stack.pop()
            for near in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                inside = 0 <= near[0] < height and 0 <= near[1] < width
                if inside and near not in members and mask[near] == mask[start]:
                    members.add(near)
                    stack.append(near)
        seen |= members
        found.append((int(mask[start]), frozenset(members)))
    return found


@settings(max_examples=60, deadline=None)
@given(small_masks, st.sampled_from([(), (0,), (1, 2)]))
def test_components_are_those_of_a_flood_fill(mask: np.ndarray, exclude: tuple[int, ...]) -> None:
    components = connected_components(mask, exclude)
    expected = {item for item in flood(mask) if item[0] not in exclude}
    got = set()
    for number in range(1, len(components) + 1):
        pixels = np.argwhere(components.index == number)
        got.add((int(components.class_ids[number - 1]), frozenset(map(tuple, pixels.tolist()))))
        assert components.areas_px[number - 1] == len(pixels)
        (y0, x0), (y1, x1) = pixels.min(axis=0), pixels.max(axis=0) + 1
        assert components.boxes[number - 1].tolist() == [x0, y0, x1, y1]
    assert got == expected
    assert list(components.class_ids) == sorted(components.class_ids)


def test_the_area_filter_keeps_order_and_renumbers() -> None:
    mask = np.array([[1, 0, 2, 2], [0, 0, 2, 2], [1, 1, 0, 0], [1, 1, 0, 3]], np.uint8)
    kept = drop_small(connected_components(mask, exclude=(0,)), 4)
    assert kept.class_ids.tolist() == [1, 2]
    assert kept.areas_px.tolist() == [4, 4]
    assert kept.index.tolist() == [[0, 0, 2, 2], [0, 0, 2, 2], [1, 1, 0, 0], [1, 1, 0, 0]]


def test_a_mask_without_labels_has_no_components() -> None:
    components = connected_components(np.full((4, 5), IGNORE, np.uint8))
    assert len(components) == 0
    assert components.boxes.shape == (0, 4)
    assert len(drop_small(components, 3)) == 0


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
