"""LabelMe: NAME.json beside each picture. A polygon stays one, everything else is a shape of the kind `mask`.

Unlabelled pixels are shapes of the class `__ignore__`, as LabelMe's own tools call them.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segkit.labels import LabelSpace
from synthgen.images import png_bytes
from synthgen.sources.coco_shapes import drawn
from synthgen.sources.objects import Area
from synthgen.sources.own_space import UNLABELLED
from synthgen.sources.rle import box_xywh
from synthgen.sources.writing import LabelledPicture, name_of, write_json

OBJECTS = True
USE = "labelme OUT (version 5.3 or newer, which knows masks)"
_VERSION = "5.5.0"


def build(out: Path, space: LabelSpace) -> LabelMe:
    return LabelMe(out, space)


class LabelMe:
    pictures = ""

    def __init__(self, out: Path, space: LabelSpace) -> None:
        self._out, self._space = out, space

    def order(self, areas: Sequence[Area], size: tuple[int, int]) -> list[Area]:
        """As they are listed, the later ones on top."""
        return list(areas)

    def add(self, picture: LabelledPicture) -> None:
        height, width = picture.mask.shape
        shapes = [
            {"label": name_of(area.class_id, self._space, UNLABELLED), "group_id": group, "flags": {}, **shape}
            for number, area in enumerate(picture.areas)
            for group, shape in _shapes(area, (height, width), number)
        ]
        content: dict[str, Any] = {
            "version": _VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": picture.file,
            "imageData": None,
        }
        size = {"imageHeight": height, "imageWidth": width}
        write_json(content | size, self._out / f"{picture.stem}.json")

    def close(self) -> None:
        """Each picture has its own file."""


def _shapes(area: Area, size: tuple[int, int], number: int) -> Iterator[tuple[int | None, dict[str, Any]]]:
    """(group number, shape): an object of several polygons is as many shapes of one group."""
    if not isinstance(area.shape, np.ndarray):
        group = number if len(area.shape) > 1 else None
        for points in area.shape:
            yield group, {"shape_type": "polygon", "points": points.tolist()}
        return
    whole = drawn(area.shape, size)
    left, top, width, height = box_xywh(whole)
    part = whole[top : top + height, left : left + width].astype(np.uint8)
    corners = [[left, top], [left + width - 1, top + height - 1]]  # the last pixel is inside
    yield None, {"shape_type": "mask", "points": corners, "mask": base64.b64encode(png_bytes(part)).decode()}
