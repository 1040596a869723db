"""Pairs of an original and an augmented picture that hold an unknown thing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from segkit.labels import Label, LabelSpace
from segtrain.methods.multi_shift.config import Config

SPACE = LabelSpace("toy", (Label(0, "ground"), Label(5, "thing")), 0)
MakeConfig = Callable[..., Config]


def street_pairs(count: int = 4, size: int = 64) -> tuple[list, list]:
    """Noisy originals with a bright thing; augmented: darker, with an unknown bar whose label is 254."""
    rng = np.random.default_rng(0)
    augmented, originals = [], []
    for _ in range(count):
        image, mask = rng.integers(90, 140, (size, size, 3), dtype=np.uint8), np.zeros((size, size), np.uint8)
        image[8:24, 8:24], mask[8:24, 8:24] = 220, 5
        mask[60:] = 255
        originals.append((image, mask))
        image, mask = image // 2, mask.copy()
        image[40:48, 16:48], mask[40:48, 16:48] = (0, 250, 30), 254
        augmented.append((image, mask))
    return augmented, originals
