"""Composer `cut_and_paste`: an object of the bank pasted into the label map where it does not belong (CG-Aug,
MultiShiftSeg, NeurIPS 2024, arXiv 2411.03829, section 3.1 and appendix A.1).

The centre is a random pixel of the anchor class, away from the picture's border; the object keeps its shape and its
size within limits, and may cover whatever stands around the centre. All lengths are shares of the map's height: the
paper's are pixels of Cityscapes, 1024 high, and so is an object's own size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, Field, model_validator

from synthgen.backends import Cost
from synthgen.errors import LabelError, RecipeError
from synthgen.labels import LabelSpace
from synthgen.models import PastedObject
from synthgen.models.control import nearest
from synthgen.render.composition import Composer, Composition, Refusal
from synthgen.render.object_bank import ObjectBank


class Options(BaseModel, extra="forbid"):
    """Where, how large, and what is said of it."""

    anchor: tuple[str, ...] = Field(("road",), min_length=1, description="classes on which objects lie [code: road]")
    margin: float = Field(
        150 / 1024, ge=0, le=0.5, description="centres keep this far from the border, of the height [code: 150 px]"
    )
    margin_step: float = Field(
        10 / 1024, gt=0, le=0.5, description="the margin shrinks by this where it leaves no centre [code: 10 px]"
    )
    min_margin: float = Field(10 / 1024, ge=0, le=0.5, description="the smallest margin that is tried [code: 10 px]")
    longer_side: tuple[float, float] = Field(
        (200 / 1024, 500 / 1024),
        description="limits of the object's longer side, of the height; between them it keeps its own [code: 200, 500]",
    )
    frame_px: int = Field(
        1024, ge=16, description="height of a map in which an object has the size that it has in the bank [code: 1024]"
    )
    sentence: str = Field(
        "{prompt}, There is a {object} accidentally staying on the road.",
        description="what is said: {prompt} of the prompts stage and {object} [code]",
    )

    @model_validator(mode="after")
    def _possible(self) -> Options:
        low, high = self.longer_side
        if not 0 < low <= high:
            raise ValueError(f"longer_side is [smallest, largest], above 0 (got {[low, high]})")
        if self.min_margin > self.margin:
            raise ValueError(f"min_margin {self.min_margin:g} must not be above margin {self.margin:g}")
        return self


def build(options: Options, execution: Any) -> CutAndPaste:
    """Raises RecipeError if the sentence has another slot."""
    try:
        options.sentence.format(prompt="", object="")
    except (KeyError, IndexError, ValueError) as error:
        raise RecipeError(
            f"render.compose.sentence {options.sentence!r}: has the slots {{prompt}} and {{object}} only"
        ) from error
    return CutAndPaste(options)


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost:
    """Next to nothing beside rendering."""
    return Cost()


class CutAndPaste(Composer):
    """One object an image."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def prepare(self, space: LabelSpace, bank: ObjectBank | None) -> None:
        """Raises RecipeError without a bank, or for an anchor that is no class of the maps."""
        if bank is None:
            raise RecipeError("render.compose cut_and_paste: has nothing to paste; set render.object_bank.folder")
        try:
            self._anchors = np.array([space.by_name(name).id for name in self._options.anchor], np.uint8)
        except LabelError as error:
            raise RecipeError(f"render.compose.anchor: {error}") from error
        self._bank = bank

    def compose(
        self, prompt: str, layout: np.ndarray | None, size_px: tuple[int, int], rng: np.random.Generator
    ) -> Composition | Refusal:
        """The map at the size of the image, and an object of the bank in it. Refused: `no_map`, `no_anchor`,
        `object_too_large` and `object_vanished`.
        """
        if layout is None:
            return Refusal("no_map", "the prompt brings no label map to paste into", True)
        ids, options = nearest(layout, size_px), self._options
        height = size_px[0]
        centres = anchor_centres(
            np.isin(ids, self._anchors),
            *(share * height for share in (options.margin, options.margin_step, options.min_margin)),
        )
        if not len(centres):
            names = " or ".join(options.anchor)
            return Refusal("no_anchor", f"no pixel of {names} far enough from the border of the map", True)
        found = self._bank.draw(rng)
        low, high = (share * height for share in options.longer_side)
        own = max(found.mask.shape) * height / options.frame_px
        shape = scaled(found.mask, float(np.clip(own, low, high)))
        if shape.shape[0] > size_px[0] or shape.shape[1] > size_px[1]:
            has = f"{shape.shape[0]} x {shape.shape[1]} px"
            detail = f"{found.name} of {has} does not fit into {size_px[0]} x {size_px[1]}: lower longer_side"
            return Refusal("object_too_large", detail, False)
        if not shape.any():
            return Refusal("object_vanished", f"nothing is left of {found.name} at {shape.shape} px", False)
        mask = pasted(shape, tuple(centres[int(rng.integers(len(centres)))].tolist()), size_px)
        said = options.sentence.format(prompt=prompt, object=found.spoken)
        about = (f"object={found.name}",)
        return Composition(" ".join(said.split()), ids, PastedObject(found.name, mask), about)


def anchor_centres(anchors: np.ndarray, margin: float, step: float, least: float) -> np.ndarray:
    """(N, 2) rows and columns of the pixels of `anchors` (H, W) bool that are at least the margin (pixels) away from
    every border. The margin shrinks by `step` until there is one, down to `least`; none there gives (0, 2).
    """
    height, width = anchors.shape
    rows, columns = np.nonzero(anchors)
    to_border = np.minimum.reduce([rows, columns, height - 1 - rows, width - 1 - columns])
    if not len(rows) or to_border.max() < least:
        return np.zeros((0, 2), np.int64)
    while to_border.max() < margin:
        margin = max(margin - step, least)
    kept = to_border >= margin
    return np.stack([rows[kept], columns[kept]], axis=1)


def scaled(shape: np.ndarray, longer_px: float) -> np.ndarray:
    """A shape (h, w) bool with its longer side at `longer_px` (rounded, at least 1), nearest pixel."""
    factor = longer_px / max(shape.shape)
    height, width = (max(1, round(side * factor)) for side in shape.shape)
    return nearest(shape.astype(np.uint8), (height, width)).astype(bool)


def pasted(shape: np.ndarray, centre: tuple[int, int], size_px: tuple[int, int]) -> np.ndarray:
    """(H, W) bool of `size_px`: the shape with its middle at `centre` (row, column), moved so that all of it is inside.

    It must not be larger than the picture.
    """
    top, left = (
        min(max(at - side // 2, 0), whole - side) for at, side, whole in zip(centre, shape.shape, size_px, strict=True)
    )
    mask = np.zeros(size_px, bool)
    mask[top : top + shape.shape[0], left : left + shape.shape[1]] = shape
    return mask
