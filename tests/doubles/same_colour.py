"""Mask decoder: inside a box, the pixels whose colour is like that of the box's centre."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel

from doubles.calls import note
from synthgen.models import MaskPrompts


class Options(BaseModel, extra="forbid"):
    tolerance: int = 60


def build(options: Options, execution: object) -> SameColour:
    note("build mask_decoder")
    return SameColour(options)


class SameColour:
    id = "same_colour"

    def __init__(self, options: Options) -> None:
        self._tolerance = options.tolerance

    def decode(
        self, images: Sequence[np.ndarray], prompts: Sequence[MaskPrompts]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        note("mask_decoder")
        return [self._one(image, asked.boxes) for image, asked in zip(images, prompts, strict=True)]

    def _one(self, image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        masks = np.zeros((len(boxes), *image.shape[:2]), bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.astype(int), strict=True):
            centre = image[(y0 + y1) // 2, (x0 + x1) // 2].astype(int)
            like = np.abs(image.astype(int) - centre).sum(axis=-1) <= self._tolerance
            mask[y0:y1, x0:x1] = like[y0:y1, x0:x1]
        return masks, np.full(len(boxes), 0.9, np.float32)
