"""YOLO segmentation (Ultralytics):

`images/{split}/`, `labels/{split}/{key}.txt` with one polygon for each connected part, `data.yaml`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import yaml

from segkit.labels import IGNORE
from segkit.shards import Dataset, StoredSample
from synthgen.export.catalogue import Exported, Rows
from synthgen.export.label_ids import contiguous, split_word
from synthgen.export.outlines import outlines

LOSS = (
    "255 (ignore) and 254 (out of distribution) become background, which has no polygons; a polygon runs through "
    "the centres of the boundary "
    "pixels: filled as OpenCV does it is the mask exactly, but a box taken from it is 1 px narrower and lower"
)
USE = "yolo segment train data=OUT/data.yaml; class ids are the places in its `names`"


def build(dataset: Dataset) -> YoloSeg:
    return YoloSeg(dataset)


class YoloSeg:
    def __init__(self, dataset: Dataset) -> None:
        self._splits = [entry.name for entry in dataset.index.splits]
        self._labels = dataset.labels.foreground
        self._table = contiguous(self._labels)

    def sample(self, number: int, split: str, sample: StoredSample) -> Exported:
        word = split_word(split)
        height, width = sample.mask.shape
        places = self._table[sample.mask]
        lines = []
        for place in np.unique(places[places != IGNORE]).tolist():
            for outline in outlines(places == place):
                # three points at least, or the loaders refuse the line; a quarter of a pixel survives both rounding
                # down and to the nearest
                points = (outline * 3)[:3] if len(outline) < 3 else outline
                corners = itertools.chain.from_iterable(
                    (f"{(x + 0.25) / width:.6f}", f"{(y + 0.25) / height:.6f}") for x, y in points
                )
                lines.append(f"{place} {' '.join(corners)}\n")
        return Exported(
            {
                f"images/{word}/{sample.key}.jpg": sample.encoded[0],
                f"labels/{word}/{sample.key}.txt": "".join(lines).encode(),
            }
        )

    def closing(self, rows: Rows) -> Iterator[tuple[str, Iterable[str]]]:
        words = [split_word(split) for split in self._splits]
        # the trainer asks for `val` always
        splits = {word: f"images/{word}" for word in words} | ({} if "val" in words else {"val": f"images/{words[0]}"})
        names = {place: label.name for place, label in enumerate(self._labels)}
        yield "data.yaml", [yaml.safe_dump({**splits, "names": names}, sort_keys=False, allow_unicode=True)]
