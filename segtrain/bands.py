"""Boundary bands of label maps: who stands within a few pixels of another class, in rings from thin to thick.

FLEX-Seg, GAP: with a square window of k pixels, a pixel is a boundary pixel of its own class if the window holds
another class as well: `maxpool_k(y) != -maxpool_k(-y)`, which is "labelled c and not in the erosion of c". A window
that holds a pixel without a class (254, 255) says nothing and is dropped; the edge of the picture is no boundary. Rings
are exclusive: ring 0 is the band of the smallest window, ring g that of window g without the one before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from segkit.labels import OUT_OF_DISTRIBUTION
from segtrain.config import BAND_FRACTIONS

NO_RING = -1
MIN_WIDTHS_PX = (3, 5, 7)


def widths_px(
    height_px: int, fractions: Sequence[float] = BAND_FRACTIONS, stride: int = 1, explicit: Sequence[int] = ()
) -> tuple[int, ...]:
    """Window sides on a grid of that stride, odd and growing; `explicit` ones are taken as they are.

    Each is the odd number nearest to its fraction of the picture's height in cells of the grid, but at least 3, and at
    least 2 more than the one before: so bands neither vanish at 64 px nor stay the same at 2048.
    """
    if explicit:
        return tuple(explicit)
    widths: list[int] = []
    for fraction in fractions:
        cells = fraction * height_px / stride
        least = widths[-1] + 2 if widths else MIN_WIDTHS_PX[0]
        widths.append(max(least, 2 * round((cells - 1) / 2) + 1))
    return tuple(widths)


def full_width_px(widths: Sequence[int], stride: int) -> int:
    """The window at full resolution that covers what the thickest band covers on a grid of that stride; odd."""
    return widths[-1] * stride // 2 * 2 + 1


def boundaries(labels: torch.Tensor, widths: Sequence[int]) -> list[torch.Tensor]:
    """(B, h, w) labels, 254 and 255 = none, to the boundary pixels for each window, (B, h, w) bool.

    `widths` are odd and growing. Raises ValueError if they are not.
    """
    if any(width % 2 == 0 or width < 3 for width in widths) or list(widths) != sorted(set(widths)):
        raise ValueError(f"widths {tuple(widths)}: windows have odd sides of at least 3 px that grow")
    # float32 holds every id, and all devices pool it.
    highest = labels[:, None].float()
    lowest = -highest
    made, reached = [], 1
    for width in widths:
        # A window of the window before is a larger window.
        highest, lowest = (_pooled(plane, width - reached + 1) for plane in (highest, lowest))
        reached = width
        # An unlabelled pixel has the highest number of all, so it shows in the maximum.
        made.append(((highest != -lowest) & (highest < OUT_OF_DISTRIBUTION))[:, 0])
    return made


def rings(boundary: Sequence[torch.Tensor]) -> torch.Tensor:
    """What `boundaries` gave to (B, h, w) int64: the ring of each pixel, NO_RING away from boundaries."""
    ring = torch.full_like(boundary[0], NO_RING, dtype=torch.int64)
    for number in reversed(range(len(boundary))):
        ring.masked_fill_(boundary[number], number)
    return ring


def band(labels: torch.Tensor, width: int) -> torch.Tensor:
    """(B, h, w) labels to (B, h, w) bool: the boundary pixels for one window."""
    return boundaries(labels, (width,))[0]


def at_stride(labels: torch.Tensor, stride: int) -> torch.Tensor:
    """(B, H, W) to (B, H / stride, W / stride): the label in the middle of each cell, as nearest neighbour has it."""
    return labels[:, stride // 2 :: stride, stride // 2 :: stride]


def _pooled(plane: torch.Tensor, width: int) -> torch.Tensor:
    """The maximum over a square window, inside the picture; one direction after the other, so 2 k looks and not k^2."""
    half = width // 2
    tall = torch.nn.functional.max_pool2d(plane, (width, 1), stride=1, padding=(half, 0))
    return torch.nn.functional.max_pool2d(tall, (1, width), stride=1, padding=(0, half))
