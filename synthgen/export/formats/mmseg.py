"""MMSegmentation:

`img_dir/{split}/`, `ann_dir/{split}/`, `splits/{split}.txt` (stems), `dataset_config.py` for `BaseSegDataset`.
"""

from __future__ import annotations

import pprint
from collections.abc import Iterable, Iterator

from segkit.colours import colours_of
from segkit.shards import Dataset, StoredSample
from synthgen.export.catalogue import Exported, Rows
from synthgen.export.label_ids import contiguous, split_word
from synthgen.images import png_bytes

LOSS = (
    "254 (out of distribution) becomes 255 (ignore); ids are the places in `classes` of dataset_config.py "
    "(`label_ids` has ours)"
)
USE = "_base_ = ['OUT/dataset_config.py'] in an MMSegmentation config; set data_root to OUT"


def build(dataset: Dataset) -> MMSeg:
    return MMSeg(dataset)


class MMSeg:
    def __init__(self, dataset: Dataset) -> None:
        self._splits = [entry.name for entry in dataset.index.splits]
        self._labels = dataset.labels.labels
        self._table, self._colours = contiguous(self._labels), colours_of(dataset.labels)

    def sample(self, number: int, split: str, sample: StoredSample) -> Exported:
        word = split_word(split)
        files = {
            f"img_dir/{word}/{sample.key}.jpg": sample.encoded[0],
            f"ann_dir/{word}/{sample.key}.png": png_bytes(self._table[sample.mask]),
        }
        return Exported(files, ((split, sample.key),))

    def closing(self, rows: Rows) -> Iterator[tuple[str, Iterable[str]]]:
        for split in self._splits:
            yield f"splits/{split_word(split)}.txt", (key.strip('"') + "\n" for key in rows(split))
        yield "dataset_config.py", [self._config()]

    def _config(self) -> str:
        metainfo = {
            "classes": tuple(label.name for label in self._labels),
            "palette": [list(self._colours[label.id]) for label in self._labels],
        }
        parts = [
            "# Datasets for MMSegmentation; set data_root to this folder.",
            'data_root = "."',
            f"label_ids = {tuple(label.id for label in self._labels)!r}  # class i of a mask here has this id in "
            "the shards",
            f"metainfo = {pprint.pformat(metainfo, width=140, sort_dicts=False)}",
        ]
        for split in self._splits:
            word = split_word(split)
            parts.append(
                f"{word}_dataset = dict(\n"
                '    type="BaseSegDataset",\n'
                "    data_root=data_root,\n"
                "    metainfo=metainfo,\n"
                f'    data_prefix=dict(img_path="img_dir/{word}", seg_map_path="ann_dir/{word}"),\n'
                '    img_suffix=".jpg",\n'
                '    seg_map_suffix=".png",\n'
                "    ignore_index=255,\n"
                "    reduce_zero_label=False,\n"
                '    pipeline=[dict(type="LoadImageFromFile"), dict(type="LoadAnnotations"), '
                'dict(type="PackSegInputs")],\n'
                ")"
            )
        return "\n".join(parts) + "\n"
