"""Labelled areas of a picture one by one, as formats hold them that keep objects apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from segkit.labels import IGNORE, LabelSpace
from synthgen.sources.coco_instances import CROWD, InstanceDecoder
from synthgen.sources.coco_shapes import Polygons, drawn, run_lengths_of
from synthgen.sources.encodings import ids_of
from synthgen.sources.folder import LabelledFile


@dataclasses.dataclass(frozen=True, slots=True)
class Area:
    """One object, or all pixels of a class where objects are not told apart. `class_id` is of the label space, 254, or
    255 for what is unlabelled; `shape` as coco_shapes.drawn takes it."""

    class_id: int
    shape: Polygons | np.ndarray


def areas_of(pair: LabelledFile, mask: np.ndarray, space: LabelSpace) -> list[Area]:
    """The areas of a picture in the order in which they are drawn: its objects where the source tells them apart, else
    one a class of its mask (H, W) uint8. What no area covers is background, or unlabelled in a space without one."""
    if isinstance(pair.decode, InstanceDecoder):
        ids = ids_of(pair.decode.names, space, pair.label, pair.decode.aliases)
        return [
            Area(IGNORE if one.category == CROWD else ids[one.category], one.shape)
            for one in pair.decode.drawing_order()
        ]
    ground = IGNORE if space.background is None else space.background
    return [
        Area(class_id, run_lengths_of(mask == class_id))
        for class_id in map(int, np.flatnonzero(np.bincount(mask.ravel(), minlength=256)))
        if class_id != ground
    ]


def painted(areas: Sequence[Area], size: tuple[int, int], space: LabelSpace) -> np.ndarray:
    """(H, W) uint8 of areas drawn one after the other."""
    mask = np.full(size, IGNORE if space.background is None else space.background, np.uint8)
    for area in areas:
        mask[drawn(area.shape, size)] = area.class_id
    return mask


def visible(areas: Sequence[Area], size: tuple[int, int]) -> tuple[list[Area], int]:
    """The areas without what later ones hide, so that their order does not count any more, and how many were cut;
    those of which nothing is left are gone."""
    kept: list[Area] = []
    num_cut, covered = 0, np.zeros(size, dtype=bool)
    for area in reversed(areas):
        whole = drawn(area.shape, size)
        part = whole & ~covered
        covered |= whole
        hidden = not np.array_equal(part, whole)
        num_cut += hidden
        if part.any():
            kept.append(Area(area.class_id, run_lengths_of(part)) if hidden else area)
    return kept[::-1], num_cut
