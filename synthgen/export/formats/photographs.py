"""The masks of photographs that were taken over, for the photographs where they lie: `labels/` with the names,
subfolders and sizes of the user's own files, `labels.yaml`, and `labels.jsonl`, which says what belongs to what.

A mask is as large as the photograph lies upright, brought back by nearest neighbour where the run had made it smaller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from segkit.printable import excerpt
from segkit.shards import Dataset, StoredSample
from synthgen.errors import InputError
from synthgen.export.catalogue import Exported, Rows
from synthgen.export.label_ids import space_yaml
from synthgen.images import png_bytes

LOSS = "pictures and confidence; at the photographs' own size a mask has the steps of the size that it was made at"
USE = "labels/NAME.png belongs to your NAME.jpg: ids of labels.yaml, 255 = unlabelled"


def build(dataset: Dataset) -> Photographs:
    """Raises InputError for a dataset that was not made of photographs, or before their sizes were noted."""
    return Photographs(dataset)


class Photographs:
    def __init__(self, dataset: Dataset) -> None:
        self._space = dataset.labels
        stems: Counter[str] = Counter()
        for sample in dataset:
            if not sample.meta.get("origin") or not sample.meta.get("origin_height_px"):
                raise InputError(
                    f"{sample.key}: was not made of a photograph, or by a version that did not note its size: export "
                    "to `folder`, or run `label-photos` again"
                )
            path = PurePosixPath(str(sample.meta["origin"]))
            if path.is_absolute() or ".." in path.parts:
                raise InputError(
                    f"{sample.key}: its photograph {excerpt(str(path))} lies outside the folder that was labelled, so "
                    "no mask can lie beside it: export to `folder`"
                )
            stems[_stem(str(path))] += 1
        self._shared = {stem for stem, count in stems.items() if count > 1}  # a.jpg beside a.png

    def sample(self, number: int, split: str, sample: StoredSample) -> Exported:
        origin = str(sample.meta["origin"])
        name = origin if _stem(origin) in self._shared else _stem(origin)
        size = int(sample.meta["origin_width_px"]), int(sample.meta["origin_height_px"])
        mask = Image.fromarray(sample.mask).resize(size, Image.Resampling.NEAREST)
        row = {"photograph": origin, "label": f"{name}.png", "key": sample.key, "split": split}
        return Exported({f"labels/{name}.png": png_bytes(np.asarray(mask))}, (("labels", row),))

    def closing(self, rows: Rows) -> Iterator[tuple[str, Iterable[str]]]:
        yield "labels.jsonl", (text + "\n" for text in rows("labels"))
        yield "labels.yaml", [space_yaml(self._space)]


def _stem(origin: str) -> str:
    return str(PurePosixPath(origin).with_suffix(""))
