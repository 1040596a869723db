"""What an image is to be rendered from: a sentence, a label map, and perhaps an object that was pasted into it.

A file of synthgen/render/compose gives an object with these two methods from `build(options, execution)`.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np

from synthgen.labels import LabelSpace
from synthgen.models import PastedObject
from synthgen.render.object_bank import ObjectBank


@dataclasses.dataclass(frozen=True, slots=True)
class Composition:
    """One image to be rendered."""

    prompt: str
    layout: np.ndarray | None  # (H, W) uint8 ids of the recipe's label space, without the object; None = no map
    pasted: PastedObject | None = None
    attributes: tuple[str, ...] = ()  # "name=value", beside those of the prompt


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing could be composed. `is_final` where no other draw would help."""

    reason: str  # a snake_case word
    detail: str
    is_final: bool


class Composer(Protocol):
    """`compose` must be cheap beside rendering, and follow from its arguments alone."""

    def prepare(self, space: LabelSpace, bank: ObjectBank | None) -> None:
        """Called once before the first `compose`, with the label space of the maps.

        Raises InputError in one line for options that do not go with it.
        """
        ...

    def compose(
        self, prompt: str, layout: np.ndarray | None, size_px: tuple[int, int], rng: np.random.Generator
    ) -> Composition | Refusal:
        """From a sentence and its label map (H, W) uint8, for an image of `size_px` (height, width)."""
        ...
