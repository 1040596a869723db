"""COCO instances: `images/{split}/{key}.jpg`, `annotations/instances_{split}.json` with run-length masks.

One annotation for each foreground class of an image, for we do not know which object a pixel belongs to. Pixels of 255
are in the image record, as `ignore_segmentation` (same run-length code); other readers pass over that key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION
from segkit.shards import Dataset, StoredSample
from synthgen.export.catalogue import Exported, Rows
from synthgen.export.label_ids import coco_categories, has_out_of_distribution, json_document, split_word
from synthgen.sources.rle import box_xywh, coco_rle

LOSS = ""
USE = (
    "pycocotools.coco.COCO('annotations/instances_train.json'); category id = label id + 1; ignored pixels: "
    "image['ignore_segmentation']"
)


def build(dataset: Dataset) -> Coco:
    return Coco(dataset)


class Coco:
    def __init__(self, dataset: Dataset) -> None:
        self._splits = [entry.name for entry in dataset.index.splits]
        strange = has_out_of_distribution(dataset)
        self._categories = coco_categories(dataset.labels, dataset.labels.foreground, strange)
        self._ids = [label.id for label in dataset.labels.foreground] + [OUT_OF_DISTRIBUTION] * strange
        self._info = {"description": dataset.index.name, "version": "1.0"}

    def sample(self, number: int, split: str, sample: StoredSample) -> Exported:
        height, width = sample.mask.shape
        word = split_word(split)
        image: dict[str, Any] = {"id": number + 1, "file_name": f"{sample.key}.jpg", "height": height, "width": width}
        if (ignored := sample.mask == IGNORE).any():
            image["ignore_segmentation"] = coco_rle(ignored)
        rows: list[tuple[str, Any]] = [(f"{split}.images", image)]
        for label_id in self._ids:
            mask = sample.mask == label_id
            if not mask.any():
                continue
            annotation = {
                "id": (number + 1) * 256 + label_id,  # follows from the sample alone, and is never 0
                "image_id": number + 1,
                "category_id": label_id + 1,
                "iscrowd": 0,
                "area": int(mask.sum()),
                "bbox": box_xywh(mask),
                "segmentation": coco_rle(mask),
            }
            rows.append((f"{split}.annotations", annotation))
        return Exported({f"images/{word}/{sample.key}.jpg": sample.encoded[0]}, tuple(rows))

    def closing(self, rows: Rows) -> Iterator[tuple[str, Iterable[str]]]:
        head = f'"info":{json.dumps(self._info)},"licenses":[],\n"categories":{json.dumps(self._categories)}'
        for split in self._splits:
            lists = (("images", f"{split}.images"), ("annotations", f"{split}.annotations"))
            yield f"annotations/instances_{split_word(split)}.json", json_document(head, lists, rows)
