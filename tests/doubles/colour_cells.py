"""Feature extractor: the mean colour of each 4 x 4 px cell, from grey, with one constant channel for greyness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel

from doubles.calls import note

CELL_PX = 4


class Options(BaseModel, extra="forbid"):
    greyness: float = 0.15


def build(options: Options, execution: object) -> ColourCells:
    note("build feature_extractor")
    return ColourCells(options)


class ColourCells:
    id = "colour_cells"

    def __init__(self, options: Options) -> None:
        self._greyness = options.greyness

    def features(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        note("feature_extractor")
        return [self._one(image) for image in images]

    def _one(self, image: np.ndarray) -> np.ndarray:
        height, width = (side // CELL_PX for side in image.shape[:2])
        cells = (
            image[: height * CELL_PX, : width * CELL_PX].reshape(height, CELL_PX, width, CELL_PX, 3).mean(axis=(1, 3))
        )
        grid = np.concatenate([cells / 255 - 0.47, np.full((height, width, 1), self._greyness)], axis=-1)
        return np.asarray(grid / np.linalg.norm(grid, axis=-1, keepdims=True), np.float32)
