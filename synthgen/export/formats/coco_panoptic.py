"""COCO panoptic: `images/{split}/`, `annotations/panoptic_{split}/{key}.png` and `annotations/panoptic_{split}.json`.

One segment a class, the background too; its id, R + 256 G + 65536 B in the PNG, is the category's. 0 is void: pixels of
255.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import numpy as np

from segkit.labels import IGNORE
from segkit.shards import Dataset, StoredSample
from synthgen.export.catalogue import Exported, Rows
from synthgen.export.label_ids import coco_categories, has_out_of_distribution, json_document, split_word
from synthgen.images import png_bytes
from synthgen.sources.rle import box_xywh

LOSS = ""
USE = "annotations/panoptic_train.json with its PNG folder; category id = label id + 1, every class is stuff"


def build(dataset: Dataset) -> CocoPanoptic:
    return CocoPanoptic(dataset)


class CocoPanoptic:
    def __init__(self, dataset: Dataset) -> None:
        self._splits = [entry.name for entry in dataset.index.splits]
        self._categories = coco_categories(dataset.labels, dataset.labels.labels, has_out_of_distribution(dataset))
        self._info = {"description": dataset.index.name, "version": "1.0"}

    def sample(self, number: int, split: str, sample: StoredSample) -> Exported:
        height, width = sample.mask.shape
        word = split_word(split)
        segments = []
        for label_id in np.unique(sample.mask).tolist():
            if label_id == IGNORE:
                continue
            mask = sample.mask == label_id
            segments.append(
                {
                    "id": label_id + 1,
                    "category_id": label_id + 1,
                    "area": int(mask.sum()),
                    "bbox": box_xywh(mask),
                    "iscrowd": 0,
                }
            )
        # a segment id is at most 255, so G and B stay 0
        coded = np.zeros((height, width, 3), dtype=np.uint8)
        coded[..., 0] = np.where(sample.mask == IGNORE, 0, sample.mask.astype(np.int32) + 1)
        image = {"id": number + 1, "file_name": f"{sample.key}.jpg", "height": height, "width": width}
        annotation = {"image_id": number + 1, "file_name": f"{sample.key}.png", "segments_info": segments}
        files = {
            f"images/{word}/{sample.key}.jpg": sample.encoded[0],
            f"annotations/panoptic_{word}/{sample.key}.png": png_bytes(coded),
        }
        return Exported(files, ((f"{split}.images", image), (f"{split}.annotations", annotation)))

    def closing(self, rows: Rows) -> Iterator[tuple[str, Iterable[str]]]:
        head = f'"info":{json.dumps(self._info)},"licenses":[],\n"categories":{json.dumps(self._categories)}'
        for split in self._splits:
            lists = (("images", f"{split}.images"), ("annotations", f"{split}.annotations"))
            yield f"annotations/panoptic_{split_word(split)}.json", json_document(head, lists, rows)
