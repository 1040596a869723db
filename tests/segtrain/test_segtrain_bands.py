"""Boundary bands against a loop over pixels that takes the definition word by word."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segtrain import bands


def slow_rings(labels: np.ndarray, widths: tuple[int, ...]) -> np.ndarray:
    """For each pixel the first window, cut at the picture's edge, that holds another class and no unlabelled pixel."""
    rings = np.full(labels.shape, bands.NO_RING)
    for row, column in np.ndindex(*labels.shape):
        for number, width in enumerate(widths):
            half = width // 2
            window = labels[max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1]
            if (window < 254).all() and (window != labels[row, column]).any():
                rings[row, column] = number
                break
    return rings


def blobs(seed: int, size: tuple[int, int], void: float = 0.0) -> np.ndarray:
    """Rectangles of five classes on each other, with some unlabelled pixels."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(size, np.uint8)
    for _ in range(6):
        top, left = rng.integers(size[0]), rng.integers(size[1])
        labels[top : top + rng.integers(2, 12), left : left + rng.integers(2, 12)] = rng.integers(5)
    labels[rng.random(size) < void] = rng.choice([254, 255])
    return labels


@pytest.mark.parametrize("void", [0.0, 0.02])
@pytest.mark.parametrize("widths", [(3, 5, 7), (5,), (3, 7, 13)])
def test_rings_against_a_loop_over_pixels(widths: tuple[int, ...], void: float) -> None:
    labels = np.stack([blobs(seed, (24, 31), void) for seed in range(5)])
    fast = bands.rings(bands.boundaries(torch.from_numpy(labels), widths)).numpy()
    slow = np.stack([slow_rings(plane, widths) for plane in labels])
    assert np.array_equal(fast, slow)
    assert {*range(len(widths))} <= set(np.unique(slow)), "the case must have every ring"
    full = bands.band(torch.from_numpy(labels), widths[-1]).numpy()
    assert np.array_equal(full, np.stack([slow_rings(plane, widths[-1:]) for plane in labels]) >= 0)


def test_an_edge_of_two_halves_has_rings_of_one_pixel_a_side_each() -> None:
    labels = torch.zeros(1, 9, 20, dtype=torch.uint8)
    labels[:, :, 10:] = 3
    ring = bands.rings(bands.boundaries(labels, (3, 5, 7)))[0]
    assert ring[4].tolist() == [-1] * 7 + [2, 1, 0, 0, 1, 2] + [-1] * 7
    assert (ring == ring[4]).all(), "the edge of the picture makes no boundary"


def test_a_picture_of_one_class_and_one_of_none_have_no_boundary() -> None:
    for value in (0, 7, 254, 255):
        assert not any(b.any() for b in bands.boundaries(torch.full((2, 8, 8), value, dtype=torch.uint8), (3, 5, 7)))


@pytest.mark.parametrize(("height", "stride", "widths"), [(64, 1, (3, 5, 7)), (512, 4, (3, 5, 7)), (720, 4, (3, 5, 7))])
def test_small_pictures_and_the_papers_have_the_smallest_windows(
    height: int, stride: int, widths: tuple[int, ...]
) -> None:
    assert bands.widths_px(height, stride=stride) == widths


@pytest.mark.parametrize("height", [64, 96, 256, 512, 1024, 2048])
@pytest.mark.parametrize("stride", [1, 4])
def test_widths_are_odd_grow_and_follow_the_height(height: int, stride: int) -> None:
    widths = bands.widths_px(height, stride=stride)
    assert all(width % 2 for width in widths) and list(widths) == sorted(set(widths)) and widths[0] >= 3
    if height >= 1024 and stride == 1:
        assert all(abs(w - f * height) <= 1 for w, f in zip(widths, (12 / 720, 20 / 720, 28 / 720), strict=True))
    assert bands.widths_px(height, stride=stride, explicit=(3, 9)) == (3, 9)
    assert bands.full_width_px(widths, stride) % 2 == 1
    assert 0 <= bands.full_width_px(widths, stride) - widths[-1] * stride <= 1


@pytest.mark.parametrize("widths", [(4,), (1,), (5, 3), (3, 3)])
def test_windows_that_are_none_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="odd sides of at least 3 px that grow"):
        bands.boundaries(torch.zeros(1, 4, 4, dtype=torch.uint8), widths)


def test_a_cell_has_the_label_in_its_middle() -> None:
    labels = torch.arange(64).view(1, 8, 8)
    assert bands.at_stride(labels, 4)[0].tolist() == [[18, 22], [50, 54]]
    assert torch.equal(bands.at_stride(labels, 1), labels)
