"""Libraries that read exports of several formats."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.compatibility.checks import Made, check, same, same_keys
from segkit.shards import Dataset
from synthgen.export.catalogue import find


@check("pycocotools", "export coco")
def coco_masks(made: Made) -> str:
    from pycocotools import mask as coder
    from pycocotools.coco import COCO

    for split, word in (("train", "train"), ("validation", "val")):
        truth = made.truth(split=split)
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(str(made.exports / f"coco/annotations/instances_{word}.json"))
        label_of = {entry["id"]: entry["label_id"] for entry in coco.loadCats(coco.getCatIds())}
        same_keys([image["file_name"].removesuffix(".jpg") for image in coco.imgs.values()], truth)
        for image in coco.imgs.values():
            wanted = truth[image["file_name"].removesuffix(".jpg")].mask
            found = np.zeros((image["height"], image["width"]), dtype=np.uint8)
            for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
                part = coco.annToMask(annotation)
                found[part > 0] = label_of[annotation["category_id"]]
                assert (
                    part.sum() == annotation["area"]
                    and coder.toBbox(coco.annToRLE(annotation)).tolist() == annotation["bbox"]
                )
            found[coder.decode(image["ignore_segmentation"]) > 0] = 255
            same(found, wanted, "mask")
    return "masks, areas and boxes equal; 255 from ignore_segmentation"


@check("torchvision", "exports voc, cityscapes", tool="torchvision")
def torchvision_loaders(made: Made) -> str:
    from torchvision.datasets import Cityscapes, VOCSegmentation

    with tempfile.TemporaryDirectory() as root:
        (Path(root) / "VOCdevkit").mkdir()
        (Path(root) / "VOCdevkit" / "VOC2012").symlink_to(made.exports.resolve() / "voc")
        for split, word in (("train", "train"), ("validation", "val")):
            truth = list(made.truth(split=split).values())
            voc = VOCSegmentation(root, year="2012", image_set=word)
            assert len(voc) == len(truth)
            for (image, mask), wanted in zip(voc, truth, strict=True):
                same(image, wanted.image, "voc image")
                same(mask, wanted.mask, "voc mask")
    ids = find("cityscapes").LABELS
    space = Dataset(made.streets).labels
    keys = dict(line.split(",") for line in (made.exports / "cityscapes/keys.csv").read_text().splitlines())
    for split, word in (("train", "train"), ("validation", "val")):
        truth = made.truth(made.streets, split)
        data = Cityscapes(str(made.exports / "cityscapes"), split=word, target_type="semantic")
        assert len(data) == len(truth)
        for place, (image, mask) in enumerate(data):
            name = data.images[place].split("leftImg8bit/")[-1].removesuffix("_leftImg8bit.png")
            wanted = truth[keys[name]]
            table = np.zeros(256, dtype=np.uint8)
            for label in space.labels:
                table[label.id] = ids[label.name][0]
            same(image, wanted.image, "cityscapes image")
            same(mask, table[wanted.mask], "labelIds")
            train = Image.open(data.targets[place][0].replace("labelIds", "labelTrainIds"))
            same(train, np.where(wanted.mask >= 254, 255, wanted.mask), "labelTrainIds")
    return "VOCSegmentation and Cityscapes: every pixel and id equal"


@check("supervision", "exports coco (run-length masks) and yolo-seg (polygons)")
def supervision_loaders(made: Made) -> str:
    import supervision as sv

    truth = made.truth(split="train")
    space = Dataset(made.objects).labels
    images = str(made.exports / "coco/images/train")
    coco = sv.DetectionDataset.from_coco(
        images, str(made.exports / "coco/annotations/instances_train.json"), force_masks=True
    )
    for path, _, found in coco:
        wanted = truth[Path(path).stem].mask
        for mask, class_id in zip(found.mask, found.class_id, strict=True):
            name = coco.classes[class_id]
            same(
                mask.astype(bool),
                wanted == (254 if name == "out_of_distribution" else space.by_name(name).id),
                f"coco {name}",
            )
    folder = made.exports / "yolo-seg"
    yolo = sv.DetectionDataset.from_yolo(
        str(folder / "images/train"), str(folder / "labels/train"), str(folder / "data.yaml"), force_masks=True
    )
    ious = []
    for path, _, found in yolo:
        wanted = truth[Path(path).stem].mask
        for class_id in set(found.class_id.tolist()):
            both = found.mask[found.class_id == class_id].any(axis=0)
            mask = wanted == space.by_name(yolo.classes[class_id]).id
            ious.append((both & mask).sum() / (both | mask).sum())
    assert min(ious) == 1, f"yolo-seg: IoU of polygons and masks is {min(ious):.3f}"
    return f"coco masks equal; yolo-seg polygons, filled by it, equal the {len(ious)} masks"


@check("ultralytics", "export yolo-seg, its YOLODataset and polygon2mask")
def ultralytics_loader(made: Made) -> str:
    import yaml

    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("YOLO_CONFIG_DIR", scratch)
        from ultralytics.data.dataset import YOLODataset
        from ultralytics.data.utils import polygon2mask

        # it writes a cache beside the labels
        folder = Path(shutil.copytree(made.exports / "yolo-seg", Path(scratch) / "yolo-seg"))
        names = yaml.safe_load((folder / "data.yaml").read_text())
        space = Dataset(made.objects).labels
        count = 0
        for split, word in (("train", "train"), ("validation", "val")):
            truth = made.truth(split=split)
            settings = {"task": "segment", "augment": False, "imgsz": 48, "rect": False}
            labels = YOLODataset(
                img_path=str(folder / "images" / word), data={**names, "channels": 3}, **settings
            ).labels
            same_keys([Path(label["im_file"]).stem for label in labels], truth)
            for label in labels:
                wanted, classes = truth[Path(label["im_file"]).stem].mask, label["cls"].ravel().astype(int)
                for place in sorted(set(classes.tolist())):
                    found = np.zeros(wanted.shape, dtype=bool)
                    for polygon in (label["segments"][i] for i in np.flatnonzero(classes == place)):
                        pixels = (polygon * np.array(wanted.shape[::-1])).reshape(-1)
                        found |= polygon2mask(wanted.shape, [pixels], 1, 1).astype(bool)
                    same(found, wanted == space.by_name(names["names"][place]).id, names["names"][place])
                    count += 1
    return f"{count} masks filled by it equal ours"


@check("datumaro", "exports coco, coco-panoptic, voc, cityscapes")
def datumaro_loaders(made: Made) -> str:
    from datumaro.components.dataset import Dataset as Datumaro

    told = []
    for name, form in (
        ("coco", "coco"),
        ("coco-panoptic", "coco_panoptic"),
        ("voc", "voc_segmentation"),
        ("cityscapes", "cityscapes"),
    ):
        source = made.streets if name == "cityscapes" else made.objects
        truth, space = made.truth(source), Dataset(source).labels
        data = Datumaro.import_from(str((made.exports / name).resolve()), form)
        names = [label.name for label in data.categories()[_label_type()].items]
        keys = dict(line.split(",") for line in (made.exports / "cityscapes/keys.csv").read_text().splitlines())
        keys = {place.partition("/")[2]: key for place, key in keys.items()}
        seen = 0
        for item in data:
            key = keys[item.id] if name == "cityscapes" else Path(item.id).name
            wanted = truth[key].mask
            for annotation in item.annotations:
                if not hasattr(annotation, "image") or annotation.label is None:
                    continue
                word = names[annotation.label]
                label_id = next(
                    (label.id for label in space.labels if label.name.replace(" ", "") == word.replace(" ", "")), None
                )
                if label_id is None:
                    assert word in ("out_of_distribution", "background", "unlabeled", "ignored"), word
                    continue
                same(np.asarray(annotation.image).astype(bool), wanted == label_id, f"{name} {key} {word}")
                seen += 1
        assert len(data) == len(truth) and seen >= len(truth), (name, len(data), len(truth), seen)
        told.append(f"{name} {seen} masks")
    return ", ".join(told) + ": equal"


def _label_type() -> Any:
    from datumaro.components.annotation import AnnotationType

    return AnnotationType.label
