"""What SAM is asked about a teacher's answer: its components, by random pixels of them or by their boxes (CLOUDS)."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from segkit.networks.sam import MaskPrompts
from segkit.regions import Components, connected_components, drop_small


def large_components(channels: np.ndarray, min_area: float) -> Components:
    """4-connected components of each class of (H, W) uint8 channels, 255 = none, over more than a share of it."""
    return drop_small(connected_components(channels, connectivity=4), math.floor(min_area * channels.size) + 1)


def random_points(components: Components, count: int, rng: np.random.Generator) -> np.ndarray:
    """(N, count, 2) float32 (x, y): distinct pixels of each component; one that has fewer repeats them.

    Pixels are sorted by component and, within it, by a random number: the first ones of each are the points.
    """
    flat = components.index.ravel()
    pixels = np.flatnonzero(flat)
    order = np.lexsort((rng.random(len(pixels)), flat[pixels]))
    starts = np.cumsum(components.areas_px) - components.areas_px
    places = starts[:, None] + np.arange(count) % components.areas_px[:, None]
    rows, columns = np.divmod(pixels[order][places], components.index.shape[1])
    return np.stack([columns, rows], axis=-1).astype(np.float32)


def prompts_of(
    components: Components, kind: Literal["points", "boxes"], count: int, rng: np.random.Generator
) -> MaskPrompts:
    """One prompt a component, in their order."""
    if kind == "boxes":
        return MaskPrompts(boxes=components.boxes.astype(np.float32))
    return MaskPrompts(points=random_points(components, count, rng))
