"""Connected components against a flood fill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segkit.labels import IGNORE
from segkit.regions import connected_components, drop_small

small_masks = arrays(
    np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 1, 2, IGNORE])
)


EIGHT = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
FOUR = ((0, 1), (1, 0), (0, -1), (-1, 0))


def flood(mask: np.ndarray, steps: Sequence[tuple[int, int]]) -> list[tuple[int, frozenset[tuple[int, int]]]]:
    """Components by flood fill over the neighbours: slow and plain."""
    height, width = mask.shape
    seen: set[tuple[int, int]] = set()
    found = []
    for start in [(y, x) for y in range(height) for x in range(width)]:
        if start in seen or mask[start] == IGNORE:
            continue
        stack, members = [start], {start}
        while stack:
            y, x = stack.pop()
            for near in [(y + dy, x + dx) for dy, dx in steps]:
                inside = 0 <= near[0] < height and 0 <= near[1] < width
                if inside and near not in members and mask[near] == mask[start]:
                    members.add(near)
                    stack.append(near)
        seen |= members
        found.append((int(mask[start]), frozenset(members)))
    return found


@settings(max_examples=60, deadline=None)
@given(small_masks, st.sampled_from([(), (0,), (1, 2)]), st.sampled_from([4, 8]))
def test_components_are_those_of_a_flood_fill(
    mask: np.ndarray, exclude: tuple[int, ...], connectivity: Literal[4, 8]
) -> None:
    components = connected_components(mask, exclude, connectivity)
    expected = {item for item in flood(mask, FOUR if connectivity == 4 else EIGHT) if item[0] not in exclude}
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
