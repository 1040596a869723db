"""Which format a dataset has."""

from __future__ import annotations

import logging
from pathlib import Path

from segkit.labels import LabelSpace
from segtrain.data.anomaly_sets import anomaly_source
from segtrain.data.coco import coco_source, is_coco
from segtrain.data.folders import FolderSource
from segtrain.data.shards import ShardSource
from segtrain.data.source import IS_URL, Source
from segtrain.data.voc import is_voc, voc_source
from segtrain.errors import DataError

_log = logging.getLogger(__name__)


def open_dataset(path: str | Path, split: str, label_space: LabelSpace | None) -> Source:
    """A finished dataset (has `index.json`), PASCAL VOC (`JPEGImages/`), COCO (`train2014/` or `val2014/`), a
    labelled folder, or an anomaly benchmark (`segtrain.data.anomaly_sets`).

    A labelled folder has `images/` and `labels/`; `label_space` is that of one that brings none. `split` is `train`, or
    empty for the one to validate on. Raises DataError on anything else, URLs included: reading one may run a shell
    command (`pipe:`), and a dataset is downloaded before it is trained on.
    """
    if IS_URL.match(str(path)):
        raise DataError(f"{path}: only local folders are read, no URLs and no pipes: download the dataset first")
    folder = Path(path)
    if (folder / "index.json").is_file():
        return ShardSource(folder, split)
    if is_voc(folder):
        return voc_source(folder, split)
    if is_coco(folder):
        return coco_source(folder, split)
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        return FolderSource(folder, label_space)
    benchmark = anomaly_source(folder)
    if benchmark:
        return benchmark
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    if (folder / "dataset" / "index.json").is_file():
        raise DataError(f"{folder}: is a run of synthgen, its dataset is {folder / 'dataset'}: name that")
    raise DataError(
        f"{folder}: neither a finished dataset (no index.json, which is written last) nor a labelled folder (no "
        "images/ and labels/), "
        "nor PASCAL VOC (no JPEGImages/) nor COCO (no train2014/ or val2014/) nor an anomaly benchmark"
    )


def open_to_score(path: str | Path, split: str, label_space: LabelSpace | None) -> Source:
    """As `open_dataset`, and a warning where a split is asked for and the data has none."""
    source = open_dataset(path, split, label_space)
    if split and source.split == "all":
        _log.warning("%s: has no splits: all of it is scored, not %s alone", path, split)
    return source


def brings_label_space(path: str | Path) -> bool:
    """Whether a source names its classes itself: finished datasets, PASCAL VOC and COCO do, labelled folders may."""
    return (
        is_voc(Path(path))
        or is_coco(Path(path))
        or any((Path(path) / name).is_file() for name in ("index.json", "labels.yaml"))
    )
