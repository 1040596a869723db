"""The public anomaly benchmarks as they are unpacked: their ids become those of a label space, anomalies 254.

RoadAnomaly    frames/{stem}.jpg, frames/{stem}.labels/labels_semantic.png    0, 1 known, 2 anomaly; or, as several
               original/{stem}.jpg, labels/{stem}.png                         projects repack it: 0 known, 1 anomaly
SMIYC          images/{stem}.*, labels_masks/{stem}_labels_semantic.png       0 known, 1 anomaly or obstacle; a track's
               folder (dataset_AnomalyTrack, dataset_ObstacleTrack); only its validation images have public labels
MUAD           leftImg8bit/{stem}.png, leftLabel/{stem}.png                   0..18 Cityscapes' train ids, 19 and 20
               (or {stem}_leftImg8bit.png, {stem}_leftLabel.png)              anomalies; the folder of a split
ACDC-POC       rgb_anon_trainvaltest/rgb_anon/{weather}/val/{place}/{stem}.png,
               gt_trainval/gt/{weather}/val/{place}/{stem}.png                Cityscapes' label ids, inserted objects
                                                                              from 100 on

255 is void in all of them. The first two say only whether a pixel is known (label space `anomaly`); the others also its
class (`cityscapes`). Cityscapes' classes that are not evaluated are void; MultiShiftSeg's code counts those of ACDC-POC
as known for AUROC, AP and FPR.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path

import numpy as np

from segkit.errors import LabelError
from segkit.folders import Pair
from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION
from segkit.masks import ids_in, read_mask
from segkit.pictures import find_picture, read_image, require_same_size
from segtrain.data.folders import PairSource
from segtrain.data.sample import Sample
from segtrain.data.source import benchmark_label_space
from segtrain.errors import DataError

_ANOMALY, _VOID = OUT_OF_DISTRIBUTION, IGNORE
_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # of the 19 evaluated classes


@dataclasses.dataclass(frozen=True, slots=True)
class _Layout:
    """`mark` is a folder by which a dataset is known; `masks` a glob and `image` what a mask's path is replaced by
    without its suffix, both by the one regular expression `stem`."""

    name: str
    mark: str
    space: str
    masks: str
    stem: str
    image: str
    ids: dict[int, int]


_TRAIN_IDS = {**{i: i for i in range(19)}, 19: _ANOMALY, 20: _ANOMALY, 21: _VOID}
_LAYOUTS = (
    _Layout(
        "road_anomaly",
        "frames",
        "anomaly",
        "frames/*.labels/labels_semantic.png",
        r"frames/(.+)\.labels/labels_semantic",
        r"frames/\1",
        {0: 0, 1: 0, 2: _ANOMALY},
    ),
    _Layout("road_anomaly", "original", "anomaly", "labels/*.png", "labels/(.+)", r"original/\1", {0: 0, 1: _ANOMALY}),
    _Layout(
        "smiyc",
        "labels_masks",
        "anomaly",
        "labels_masks/*_labels_semantic.png",
        "labels_masks/(.+)_labels_semantic",
        r"images/\1",
        {0: 0, 1: _ANOMALY},
    ),
    _Layout(
        "muad",
        "leftLabel",
        "cityscapes",
        "leftLabel/*_leftLabel.png",
        "leftLabel/(.+)_leftLabel",
        r"leftImg8bit/\1_leftImg8bit",
        _TRAIN_IDS,
    ),
    _Layout("muad", "leftLabel", "cityscapes", "leftLabel/*.png", "leftLabel/(.+)", r"leftImg8bit/\1", _TRAIN_IDS),
    _Layout(
        "acdc_poc",
        "gt_trainval",
        "cityscapes",
        "gt_trainval/gt/*/val/*/*.png",
        "gt_trainval/gt/(.+)",
        r"rgb_anon_trainvaltest/rgb_anon/\1",
        {
            **dict.fromkeys(range(34), _VOID),
            **{label: number for number, label in enumerate(_LABEL_IDS)},
            **dict.fromkeys(range(34, 255), _ANOMALY),
        },
    ),
)


def anomaly_source(root: Path) -> AnomalySource | None:
    """None for a folder that is none of the benchmarks. Raises DataError if a mask has no image."""
    for layout in _LAYOUTS:
        masks = sorted(root.glob(layout.masks)) if (root / layout.mark).is_dir() else []
        if masks:
            return AnomalySource(root, layout, [_pair(root, layout, mask) for mask in masks])
    return None


class AnomalySource(PairSource):
    """Pairs of a public anomaly benchmark."""

    def __init__(self, root: Path, layout: _Layout, pairs: list[Pair]) -> None:
        super().__init__(root, "all", benchmark_label_space(layout.space), pairs, layout.name)
        self._layout = layout

    def read(self, row: int, *, confidence: bool = False, original: bool = False) -> Sample:
        pair = self._pairs[row]
        image, mask = read_image(pair.image), self.read_mask(row)
        if image.shape[:2] != mask.shape:
            require_same_size(mask.shape, pair.mask, pair.image)
        return Sample(image, mask, pair.stem, str(pair.image))

    def read_mask(self, row: int) -> np.ndarray:
        path = self._pairs[row].mask
        stored = read_mask(path)
        strange = sorted(ids_in(stored) - set(self._layout.ids) - {IGNORE})
        if strange:
            raise LabelError(f"{path}: id {strange[0]} is none of {self._layout.name}: unpack the dataset again")
        return self._ids[stored]

    @functools.cached_property
    def _ids(self) -> np.ndarray:
        table = np.full(256, IGNORE, dtype=np.uint8)
        table[list(self._layout.ids)] = list(self._layout.ids.values())
        return table


def _pair(root: Path, layout: _Layout, mask: Path) -> Pair:
    place = mask.relative_to(root).with_suffix("").as_posix()
    image = root / re.sub(f"^{layout.stem}$", layout.image, place)
    found = find_picture(image)
    if found is None:
        raise DataError(f"{mask}: its image {image.relative_to(root)}.* is missing: unpack the dataset again")
    return Pair(found.stem, found, mask)
