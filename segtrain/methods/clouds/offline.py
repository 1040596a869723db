"""Pseudo-labels that are made once a picture, by the warm-up's network and SAM, and stay.

Nothing has to be kept for a resume: they are a function of the teacher, which is in the checkpoint, and of the picture.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

Labels = tuple[np.ndarray, ...]
"""Maps of one picture, each (H, W) uint8."""


class OncePerPicture:
    """Labels of whole pictures by (source, row), made when one is first asked for, and held compressed."""

    def __init__(self, make: Callable[[int, int], Labels]) -> None:
        """`make(source, row)` gives the maps of a picture."""
        self._make = make
        self._held: dict[tuple[int, int], tuple[tuple[int, ...], bytes]] = {}

    def __call__(self, source: int, row: int) -> Labels:
        if (source, row) not in self._held:
            both = np.stack(self._make(source, row))
            self._held[source, row] = both.shape, zlib.compress(both.tobytes(), 1)
        shape, packed = self._held[source, row]
        return tuple(np.frombuffer(zlib.decompress(packed), np.uint8).reshape(shape).copy())
