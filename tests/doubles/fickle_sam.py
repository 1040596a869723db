"""Mask decoder: agrees with a box or not, as a hash of the image's bytes decides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel

from synthgen.models import MaskDecoder, MaskPrompts


class Options(BaseModel, extra="forbid"):
    agrees_in: int = 2  # one image in so many


def build(options: Options, execution: object) -> FickleSam:
    return FickleSam(options.agrees_in)


class FickleSam(MaskDecoder):
    id = "fickle_sam"

    def __init__(self, agrees_in: int) -> None:
        self._agrees_in = agrees_in

    def decode(
        self, images: Sequence[np.ndarray], prompts: Sequence[MaskPrompts]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """The whole box, or nothing."""
        answers = []
        for image, asked in zip(images, prompts, strict=True):
            assert asked.boxes is not None
            mask = np.zeros((1, *image.shape[:2]), bool)
            left, top, right, bottom = asked.boxes[0].astype(int)
            agrees = hashlib.sha256(image.tobytes()).digest()[0] % self._agrees_in == 0
            mask[0, top : bottom if agrees else top, left:right] = True
            answers.append((mask, np.ones(1, np.float32)))
        return answers
