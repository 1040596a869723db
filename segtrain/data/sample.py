"""One labelled image, as a source gives it."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """An image and its mask; all arrays of one height and width.

    `image` (H, W, 3) uint8 RGB; `mask` (H, W) uint8 ids, 254 = out of distribution, 255 = unlabelled; `confidence`
    (H, W) uint8, 0..255 for 0..1, of the mask; `original` the (image, mask) that a pair's image was made from. The last
    two are None where the source has none or nobody asked for them.
    """

    image: np.ndarray
    mask: np.ndarray
    key: str  # of the sample in its source
    where: str  # for error messages
    confidence: np.ndarray | None = None
    original: tuple[np.ndarray, np.ndarray] | None = None
