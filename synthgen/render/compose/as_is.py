"""Composer `as_is`: prompt and label map go to the renderer as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel

from synthgen.backends import Cost
from synthgen.errors import RecipeError
from synthgen.labels import LabelSpace
from synthgen.render.composition import Composer, Composition
from synthgen.render.object_bank import ObjectBank


class Options(BaseModel, extra="forbid"):
    """There is nothing to set."""


def build(options: Options, execution: Any) -> AsIs:
    """Nothing to load."""
    return AsIs()


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost:
    """Next to nothing beside rendering."""
    return Cost()


class AsIs(Composer):
    """Changes nothing."""

    def prepare(self, space: LabelSpace, bank: ObjectBank | None) -> None:
        """Raises RecipeError for an object bank that nothing would be taken from."""
        if bank is not None:
            raise RecipeError(
                "render.object_bank: nothing is pasted by render.compose as_is; set render.compose={name: "
                "cut_and_paste}, or leave the bank out"
            )

    def compose(
        self, prompt: str, layout: np.ndarray | None, size_px: tuple[int, int], rng: np.random.Generator
    ) -> Composition:
        """The arguments."""
        return Composition(prompt, layout)
