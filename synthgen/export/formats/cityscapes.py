"""Cityscapes:

`leftImg8bit/{split}/{city}/`, `gtFine/{split}/{city}/` with labelIds and labelTrainIds, `keys.csv` (which file is which
sample).

Only for label spaces whose classes have the names of Cityscapes: another class would have no labelId.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from segkit.labels import IGNORE
from segkit.shards import Dataset, StoredSample
from segkit.spelling import same_name
from synthgen.errors import LabelError
from synthgen.export.catalogue import Exported, Rows
from synthgen.export.label_ids import split_word
from synthgen.images import png_bytes

LOSS = (
    "254 (out of distribution) becomes 0 (unlabeled) in labelIds and 255 in labelTrainIds, as 255 does; images "
    "become PNG, without the mark that "
    "packed ones bear"
)
USE = (
    "torchvision.datasets.Cityscapes(OUT, split='train', mode='fine', target_type='semantic'); keys.csv tells "
    "which file is which sample"
)
CITY = "synthgen"
# name -> (labelId, trainId); trainId 255 is left out of the benchmark
LABELS = {
    "unlabeled": (0, 255),
    "ego vehicle": (1, 255),
    "rectification border": (2, 255),
    "out of roi": (3, 255),
    "static": (4, 255),
    "dynamic": (5, 255),
    "ground": (6, 255),
    "road": (7, 0),
    "sidewalk": (8, 1),
    "parking": (9, 255),
    "rail track": (10, 255),
    "building": (11, 2),
    "wall": (12, 3),
    "fence": (13, 4),
    "guard rail": (14, 255),
    "bridge": (15, 255),
    "tunnel": (16, 255),
    "pole": (17, 5),
    "polegroup": (18, 255),
    "traffic light": (19, 6),
    "traffic sign": (20, 7),
    "vegetation": (21, 8),
    "terrain": (22, 9),
    "sky": (23, 10),
    "person": (24, 11),
    "rider": (25, 12),
    "car": (26, 13),
    "truck": (27, 14),
    "bus": (28, 15),
    "caravan": (29, 255),
    "trailer": (30, 255),
    "train": (31, 16),
    "motorcycle": (32, 17),
    "bicycle": (33, 18),
}


def build(dataset: Dataset) -> Cityscapes:
    """Raises LabelError that names the classes which Cityscapes does not have."""
    strange = [label.name for label in dataset.labels.labels if same_name(label.name) not in LABELS]
    if strange:
        raise LabelError(
            f"{', '.join(strange)}: no class of Cityscapes, so no labelId; export to mmseg, voc or folder instead"
        )
    return Cityscapes(dataset)


class Cityscapes:
    def __init__(self, dataset: Dataset) -> None:
        self._label_ids, self._train_ids = np.zeros(256, dtype=np.uint8), np.full(256, IGNORE, dtype=np.uint8)
        for label in dataset.labels.labels:
            self._label_ids[label.id], self._train_ids[label.id] = LABELS[same_name(label.name)]

    def sample(self, number: int, split: str, sample: StoredSample) -> Exported:
        place = f"{split_word(split)}/{CITY}/{CITY}_{number % 10**6:06d}_{number // 10**6:06d}"
        files = {
            f"leftImg8bit/{place}_leftImg8bit.png": png_bytes(sample.image),
            f"gtFine/{place}_gtFine_labelIds.png": png_bytes(self._label_ids[sample.mask]),
            f"gtFine/{place}_gtFine_labelTrainIds.png": png_bytes(self._train_ids[sample.mask]),
        }
        return Exported(files, (("keys", f"{place},{sample.key}"),))

    def closing(self, rows: Rows) -> Iterator[tuple[str, Iterable[str]]]:
        yield "keys.csv", itertools.chain(["file,key\n"], (text.strip(chr(34)) + "\n" for text in rows("keys")))
