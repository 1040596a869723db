"""One drawn scene: the image, its exact masks, its caption."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Drawing:
    image: np.ndarray  # (H, W, 3) uint8 RGB
    mask: np.ndarray  # (H, W) uint8 class ids of the world's label space
    instances: np.ndarray  # (H, W) uint16, 0 = belongs to no countable object, 1.. = instance ids
    caption: str
    attributes: tuple[tuple[str, str], ...]  # sorted (name, value) pairs
