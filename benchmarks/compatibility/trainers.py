"""Trainers and viewers that each have a format of their own, and the written rules of those that do not install."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import types
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.compatibility.checks import Made, check, same, same_keys
from segkit.shards import Dataset


@check("mmsegmentation", "export mmseg: dataset_config.py, BaseSegDataset with its pipeline", module="mmseg")
def mmseg_loader(made: Made) -> str:
    # mmcv-lite has no compiled operators; its package asks for one, its loaders for none
    if importlib.util.find_spec("mmcv._ext") is None:
        sys.modules["mmcv.ops"] = types.ModuleType("mmcv.ops")
        vars(sys.modules["mmcv.ops"])["point_sample"] = None
    import mmseg.datasets
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmseg.registry import DATASETS

    init_default_scope("mmseg")
    config = Config.fromfile(str(made.exports / "mmseg/dataset_config.py"))
    places = {label_id: place for place, label_id in enumerate(config.label_ids)}
    table = np.array([places.get(class_id, 255) for class_id in range(256)], dtype=np.uint8)
    names = {label.id: label.name for label in Dataset(made.objects).labels.labels}
    count = 0
    for split, word in (("train", "train"), ("validation", "val")):
        truth = made.truth(split=split)
        data = DATASETS.build({**config[f"{word}_dataset"], "data_root": str(made.exports / "mmseg")})
        assert isinstance(data, mmseg.datasets.BaseSegDataset) and data.metainfo["classes"] == tuple(names.values())
        seen = []
        for row in data:
            key = Path(row["data_samples"].img_path).stem
            same(row["data_samples"].gt_sem_seg.data[0], table[truth[key].mask], "mmseg mask")
            same(
                row["inputs"].permute(1, 2, 0).numpy()[..., ::-1],
                _as_opencv(made.exports / f"mmseg/img_dir/{word}/{key}.jpg"),
                "mmseg image",
            )
            seen.append(key)
        same_keys(seen, truth)
        count += len(seen)
    operators = "" if importlib.util.find_spec("mmcv._ext") else "; with mmcv-lite, whose operators no loader uses"
    return f"{count} samples: every id equal, images as OpenCV decodes them{operators}"


def _as_opencv(path: Path) -> np.ndarray:
    import cv2

    return cv2.imread(str(path))[..., ::-1]


@check("fiftyone", "export fiftyone: ImageSegmentationDirectoryImporter", module="fiftyone")
def fiftyone_importer(made: Made) -> str:
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")
    from fiftyone.utils.data import ImageSegmentationDirectoryImporter

    count = 0
    for split in ("train", "validation"):
        truth, seen = made.truth(split=split), []
        with ImageSegmentationDirectoryImporter(
            dataset_dir=str((made.exports / "fiftyone" / split).resolve()), compute_metadata=True
        ) as importer:
            for path, about, label in importer:
                wanted = truth[Path(path).stem]
                same(label.get_mask(), wanted.mask, "fiftyone mask")
                same(Image.open(path), wanted.image, "fiftyone image")
                assert (about.height, about.width) == wanted.mask.shape
                seen.append(Path(path).stem)
        same_keys(seen, truth)
        count += len(seen)
    targets = json.loads((made.exports / "fiftyone/mask_targets.json").read_text())
    assert {int(class_id) for class_id in targets} >= {
        int(i) for sample in made.truth().values() for i in np.unique(sample.mask)
    }
    return f"{count} samples by its importer, which needs no database: every pixel and id equal"


@check("detectron2", "export detectron2: load_sem_seg")
def detectron2_loader(made: Made) -> str:
    from detectron2.data.datasets import load_sem_seg

    count = 0
    for word in ("train", "val"):
        folder = made.exports / "detectron2"
        rows = load_sem_seg(str(folder / f"labels/{word}"), str(folder / f"images/{word}"), "png", "jpg")
        ours = json.loads((folder / f"sem_seg_{word}.json").read_text())
        assert [Path(row["file_name"]).name for row in rows] == [Path(row["file_name"]).name for row in ours]
        for found, wanted in zip(rows, ours, strict=True):
            assert Path(found["sem_seg_file_name"]) == folder / wanted["sem_seg_file_name"]
            count += 1
    return f"{count} rows are those of sem_seg_*.json"


@check(
    "pillow",
    "exports coco-panoptic, mmseg, detectron2, fiftyone, folder: the written rules of their loaders",
    module="PIL",
    tool="Pillow",
)
def layouts(made: Made) -> str:
    """What the documented readers do, in a few lines each:

    for tools that do not install, and for machines without the others.
    """
    for split, word in (("train", "train"), ("validation", "val")):
        truth = made.truth(split=split)
        space = Dataset(made.objects).labels
        places = {label.id: place for place, label in enumerate(space.labels)}
        for key, sample in truth.items():
            wanted = np.array([places.get(class_id, 255) for class_id in range(256)], dtype=np.uint8)[sample.mask]
            same(Image.open(made.exports / f"mmseg/ann_dir/{word}/{key}.png"), wanted, "mmseg")
            same(Image.open(made.exports / f"detectron2/labels/{word}/{key}.png"), wanted, "detectron2")
            same(Image.open(made.exports / f"fiftyone/{split}/labels/{key}.png"), sample.mask, "fiftyone")
            same(Image.open(made.exports / f"folder/{split}/labels/{key}.png"), sample.mask, "folder")
            same(Image.open(made.exports / f"folder/{split}/confidence/{key}.png"), sample.confidence, "folder")
            for path in (
                f"mmseg/img_dir/{word}",
                f"detectron2/images/{word}",
                f"fiftyone/{split}/data",
                f"folder/{split}/images",
            ):
                same(Image.open(made.exports / path / f"{key}.jpg"), sample.image, path)
        document = json.loads((made.exports / f"coco-panoptic/annotations/panoptic_{word}.json").read_text())
        label_of = {entry["id"]: entry["label_id"] for entry in document["categories"]}
        for annotation in document["annotations"]:
            rgb = np.asarray(
                Image.open(made.exports / f"coco-panoptic/annotations/panoptic_{word}" / annotation["file_name"])
            ).astype(np.int64)
            ids = rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]
            found = np.full(ids.shape, 255, dtype=np.uint8)
            for segment in annotation["segments_info"]:
                assert (ids == segment["id"]).sum() == segment["area"]
                found[ids == segment["id"]] = label_of[segment["category_id"]]
            same(found, truth[annotation["file_name"].removesuffix(".png")].mask, "panoptic")
    return "every pixel and id equal"
