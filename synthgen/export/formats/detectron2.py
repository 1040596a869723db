"""Detectron2 semantic segmentation:

`images/{split}/`, `labels/{split}/`, `sem_seg_{split}.json` (its dataset dicts) and `metadata.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from segkit.colours import colours_of
from segkit.shards import Dataset, StoredSample
from synthgen.export.catalogue import Exported, Rows
from synthgen.export.label_ids import contiguous, split_word
from synthgen.images import png_bytes

LOSS = (
    "254 (out of distribution) becomes 255 (ignore); ids are the places in `stuff_classes` of metadata.json "
    "(`label_ids` has ours)"
)
USE = (
    "load_sem_seg('OUT/labels/train', 'OUT/images/train', 'png', 'jpg') with "
    "MetadataCatalog.get(NAME).set(**metadata.json)"
)


def build(dataset: Dataset) -> Detectron2:
    return Detectron2(dataset)


class Detectron2:
    def __init__(self, dataset: Dataset) -> None:
        self._splits = [entry.name for entry in dataset.index.splits]
        self._labels = dataset.labels.labels
        self._table, self._colours = contiguous(self._labels), colours_of(dataset.labels)

    def sample(self, number: int, split: str, sample: StoredSample) -> Exported:
        word = split_word(split)
        image, label = f"images/{word}/{sample.key}.jpg", f"labels/{word}/{sample.key}.png"
        height, width = sample.mask.shape
        row = {"file_name": image, "height": height, "width": width, "image_id": sample.key, "sem_seg_file_name": label}
        return Exported({image: sample.encoded[0], label: png_bytes(self._table[sample.mask])}, ((split, row),))

    def closing(self, rows: Rows) -> Iterator[tuple[str, Iterable[str]]]:
        for split in self._splits:
            yield f"sem_seg_{split_word(split)}.json", _json_list(rows(split))
        metadata = {
            "stuff_classes": [label.name for label in self._labels],
            "stuff_colors": [list(self._colours[label.id]) for label in self._labels],
            "ignore_label": 255,
            "evaluator_type": "sem_seg",
            "label_ids": [label.id for label in self._labels],
        }
        yield "metadata.json", [json.dumps(metadata, indent=1, ensure_ascii=False) + "\n"]


def _json_list(texts: Iterator[str]) -> Iterator[str]:
    yield "["
    for number, text in enumerate(texts):
        yield (",\n" if number else "\n") + text
    yield "]\n"
