"""Image-text scorer: an image is how far its mean lies from grey, a text the colour of the shape that it names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel

from doubles.calls import note
from doubles.world import COLOURS

WORDS = {**COLOURS, "coin": COLOURS["disc"]}


class Options(BaseModel, extra="forbid"):
    sharpness: float = 1.0


def build(options: Options, execution: object) -> ColourScorer:
    note("build image_scorer")
    return ColourScorer(options)


class ColourScorer:
    id = "colour_scorer"

    def __init__(self, options: Options) -> None:
        self._sharpness = options.sharpness

    def embed_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        note("image_scorer")
        return _unit(
            [
                [*(image.reshape(-1, 3).mean(axis=0) - 120) * self._sharpness, 1e-3, image.std() / 100]
                for image in images
            ]
        )

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        named = (next((colour for word, colour in WORDS.items() if word in text), (120, 120, 120)) for text in texts)
        return _unit([[*(np.asarray(colour) - 120.0), 1e-3, 0.0] for colour in named])


def _unit(rows: Sequence[Sequence[float]]) -> np.ndarray:
    vectors = np.asarray(rows, np.float32).reshape(-1, 5)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)
