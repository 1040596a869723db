"""A label map of a labelled source, whole or a window of it, and the picture that it is of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from segkit.labels import LabelSpace
from segkit.masks import read_mask
from segkit.pictures import read_image, require_same_size
from synthgen.sources.folder import LabelledFile

Window = tuple[slice, slice]
"""Rows and columns of a window."""


@dataclasses.dataclass(frozen=True, slots=True)
class LabelMap:
    """Where a map lies and which part of it is meant. `decode` reads a label file of another dataset; None for masks
    of the label space itself. `picture_path` is None where nobody has said what the map is of.
    """

    path: Path
    decode: Callable[[Path, LabelSpace], np.ndarray] | None = None
    picture_path: Path | None = None
    window: Window | None = None  # None = all of it

    @classmethod
    def of(cls, file: LabelledFile) -> LabelMap:
        """The whole map of a labelled file."""
        return cls(file.label, file.decode, file.image)

    def ids(self, space: LabelSpace) -> np.ndarray:
        """(H, W) uint8. Raises InputError for a damaged file, LabelError for ids that are not in the label space."""
        return self._cut(self._whole(space))

    def picture(self, space: LabelSpace) -> np.ndarray:
        """(H, W, 3) uint8, the same part of the picture.

        Raises as `ids` does, and InputError if there is no picture or if its size is not that of the map.
        """
        assert self.picture_path is not None, f"{self.path}: nobody has said what it is a map of"
        require_same_size(self._whole(space).shape, self.path, self.picture_path)
        return self._cut(read_image(self.picture_path))

    def _whole(self, space: LabelSpace) -> np.ndarray:
        if self.decode is None:
            return read_mask(self.path, space)
        ids = self.decode(self.path, space)
        space.check(ids, self.path)
        return ids

    def _cut(self, array: np.ndarray) -> np.ndarray:
        return array if self.window is None else np.ascontiguousarray(array[self.window])
