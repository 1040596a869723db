"""A COCO set of a picture or two, and its annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from segkit.labels import Label, LabelSpace
from synthgen.images import write_image


def rectangle(left: int, top: int, right: int, bottom: int) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def write_set(root: Path, annotations: list[Any], images: list[Any] | None = None, write: bool = True) -> None:
    """A COCO folder of pictures of 8 x 10 px, each of a grey of its own."""
    images = [{"id": 1, "file_name": "a.png", "height": 8, "width": 10}] if images is None else images
    body = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "Cat"}, {"id": 2, "name": "dog"}],
    }
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations/instances_val2017.json").write_text(json.dumps(body))
    for number, item in enumerate(images if write else []):
        path = root / "val2017" / item["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(np.full((8, 10, 3), 10 * number, np.uint8), path)


def shape(**changes: Any) -> dict[str, Any]:
    return {"id": 7, "image_id": 1, "category_id": 1, "segmentation": rectangle(1, 1, 4, 4), "iscrowd": 0, **changes}


PETS = LabelSpace("pets", (Label(0, "background"), Label(1, "cat"), Label(2, "dog")), 0)
