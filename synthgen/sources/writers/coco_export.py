"""COCO instances as CVAT lays them out: images/, annotations/instances_default.json.

An object is an annotation: a polygon stays one, everything else is run lengths. Unlabelled pixels are run lengths in
the image record, which readers other than ours pass over.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION, LabelSpace
from synthgen.sources.coco_fields import IGNORED_AREA
from synthgen.sources.coco_shapes import drawn
from synthgen.sources.objects import Area
from synthgen.sources.rle import box_xywh, coco_rle
from synthgen.sources.writing import LabelledPicture, name_of, write_file

OBJECTS = True
USE = (
    "pycocotools.coco.COCO('annotations/instances_default.json'), CVAT's import of COCO 1.0; category id = label id + 1"
)


def build(out: Path, space: LabelSpace) -> Coco:
    return Coco(out, space)


class Coco:
    pictures = "images"

    def __init__(self, out: Path, space: LabelSpace) -> None:
        self._out, self._space = out, space
        self._images: list[str] = []  # as JSON: a tenth of the memory of objects
        self._annotations: list[str] = []
        self._ids = {label.id for label in space.foreground}

    def order(self, areas: Sequence[Area], size: tuple[int, int]) -> list[Area]:
        """Unlabelled ones first, then the largest first, so that small ones lie on large ones."""
        counted = [(area, int(np.count_nonzero(drawn(area.shape, size)))) for area in areas]
        return [area for area, count in sorted(counted, key=lambda one: (one[0].class_id != IGNORE, -one[1]))]

    def add(self, picture: LabelledPicture) -> None:
        height, width = picture.mask.shape
        number = len(self._images) + 1
        image: dict[str, Any] = {"id": number, "file_name": picture.file, "height": height, "width": width}
        if self._space.background is not None and (ignored := picture.mask == IGNORE).any():
            image[IGNORED_AREA] = coco_rle(ignored)
        self._images.append(json.dumps(image))
        for area in picture.areas:
            if area.class_id == IGNORE:
                continue
            self._ids.add(area.class_id)
            shown = drawn(area.shape, (height, width))
            annotation = {
                "id": len(self._annotations) + 1,
                "image_id": number,
                "category_id": area.class_id + 1,  # 0 means nothing to many readers
                "iscrowd": 0,
                "area": int(shown.sum()),
                "bbox": box_xywh(shown),
                "segmentation": coco_rle(shown)
                if isinstance(area.shape, np.ndarray)
                else [points.ravel().tolist() for points in area.shape],
            }
            self._annotations.append(json.dumps(annotation))

    def close(self) -> None:
        categories = [
            {"id": class_id + 1, "name": name_of(class_id, self._space, ""), "supercategory": ""}
            for class_id in sorted(self._ids)
            if class_id <= OUT_OF_DISTRIBUTION
        ]
        info = {"description": self._space.name, "version": "1.0"}
        head = f'{{"info": {json.dumps(info)}, "licenses": [],\n"categories": {json.dumps(categories)}'
        lists = ((f'"{key}"', rows) for key, rows in (("images", self._images), ("annotations", self._annotations)))
        body = "".join(",\n" + key + ": [\n" + ",\n".join(rows) + "]" for key, rows in lists)
        write_file((head + body + "}\n").encode(), self._out / "annotations" / "instances_default.json")
