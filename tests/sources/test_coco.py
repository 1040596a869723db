"""COCO's two formats on a tiny folder, and the masks against pycocotools where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from synthgen.errors import InputError, LabelError
from synthgen.images import write_image
from synthgen.labels import read_label_space
from synthgen.sources.coco import region, run_lengths
from synthgen.sources.folder import read_labelled
from synthgen.sources.listing import list_source

HEIGHT, WIDTH = 20, 30
CATEGORIES = [
    {"id": 1, "name": "person"},
    {"id": 3, "name": "car"},
    {"id": 44, "name": "bottle"},
    {"id": 187, "name": "sky-other-merged"},
]


def write_annotations(root: Path, kind: str, annotations: list[dict[str, Any]], split: str = "val") -> None:
    (root / f"{split}2017").mkdir(parents=True, exist_ok=True)
    (root / "annotations").mkdir(exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / f"{split}2017/000000000139.jpg")
    images = [
        {"id": 139, "file_name": "000000000139.jpg", "height": HEIGHT, "width": WIDTH},
        {"id": 285, "file_name": "none.jpg", "height": 1, "width": 1},
    ]
    body = {"images": images, "categories": CATEGORIES, "annotations": annotations}
    (root / f"annotations/{kind}_{split}2017.json").write_text(json.dumps(body))


def rectangle(left: int, top: int, right: int, bottom: int) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def instance(category: int, segmentation: Any, area: float, crowd: int = 0) -> dict[str, Any]:
    return {"image_id": 139, "category_id": category, "segmentation": segmentation, "area": area, "iscrowd": crowd}


def test_instances_small_ones_lie_on_large_ones(tmp_path: Path) -> None:
    crowd = {"size": [HEIGHT, WIDTH], "counts": [0, 2 * HEIGHT, HEIGHT * (WIDTH - 2)]}  # the first two columns
    annotations = [
        instance(44, rectangle(12, 5, 14, 8), 6),
        instance(1, rectangle(10, 2, 20, 12), 100),
        instance(3, crowd, 40, crowd=1),
    ]
    write_annotations(tmp_path, "instances", annotations)
    (pair,) = list_source("coco_instances", tmp_path, "val")
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[2:12, 10:20] = 1
    expected[5:8, 12:14] = 44
    expected[:, :2] = 255
    mask = read_labelled(pair, read_label_space("coco"))[1]
    assert (pair.stem, (mask != expected).sum()) == ("000000000139", 0)
    in_voc = read_labelled(pair, read_label_space("voc"))[1]
    assert (in_voc == np.select([expected == 1, expected == 44, expected == 255], [15, 5, 255], 0)).all()


def test_classes_that_a_space_lacks_are_ignored_and_not_background(tmp_path: Path) -> None:
    write_annotations(
        tmp_path, "instances", [instance(44, rectangle(0, 0, 5, 5), 25), instance(3, rectangle(10, 10, 12, 12), 4)]
    )
    (pair,) = list_source("coco_instances", tmp_path, "val")
    mask = read_labelled(pair, read_label_space("cityscapes"))[1]
    assert mask[0, 0] == 255 and mask[11, 11] == 13 and mask[15, 25] == 255, "cityscapes has no background"
    with pytest.raises(LabelError, match="has none of this dataset's classes"):
        read_labelled(pair, read_label_space("anomaly"))


def test_panoptic(tmp_path: Path) -> None:
    segments = np.full((HEIGHT, WIDTH), 0)
    segments[:10] = 70_000
    segments[10:15, :7] = 300
    segments[10:15, 7:9] = 5
    (tmp_path / "annotations/panoptic_val2017").mkdir(parents=True)
    write_image(
        np.stack([segments % 256, segments // 256 % 256, segments // 65536], axis=-1).astype(np.uint8),
        tmp_path / "annotations/panoptic_val2017/000000000139.png",
    )
    info = [{"id": 70_000, "category_id": 187}, {"id": 300, "category_id": 1}, {"id": 5, "category_id": 44}]
    write_annotations(tmp_path, "panoptic", [{"image_id": 139, "file_name": "000000000139.png", "segments_info": info}])
    (pair,) = list_source("coco_panoptic", tmp_path, "val")
    mask = read_labelled(pair, read_label_space("coco-panoptic"))[1]
    assert (mask == np.select([segments == 70_000, segments == 300, segments == 5], [187, 1, 44], 255)).all()
    street = read_labelled(pair, read_label_space("cityscapes"))[1]
    assert (street == np.select([segments == 70_000, segments == 300], [10, 11], 255)).all(), (
        "sky-other-merged is sky there"
    )
    write_annotations(
        tmp_path, "panoptic", [{"image_id": 139, "file_name": "000000000139.png", "segments_info": info[:1]}]
    )
    other = tmp_path / "again"
    (tmp_path / "annotations").rename(other)
    other.rename(tmp_path / "annotations")
    from synthgen.sources.coco import _annotations

    _annotations.cache_clear()
    (pair,) = list_source("coco_panoptic", tmp_path, "val")
    with pytest.raises(LabelError, match="stored values 5, 300 are not of this dataset"):
        read_labelled(pair, read_label_space("coco-panoptic"))


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"images": []}', '{"images": [{"id": 1}], "annotations": [], "categories": []}']
)
def test_damaged_annotations_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_val2017.json").write_text(text)
    with pytest.raises(InputError, match=r"instances_val2017\.json: ") as error:
        list_source("coco_instances", tmp_path, "val")
    assert "\n" not in str(error.value)


def test_missing_pictures_are_named(tmp_path: Path) -> None:
    write_annotations(tmp_path, "instances", [instance(1, rectangle(0, 0, 5, 5), 25)])
    (tmp_path / "val2017/000000000139.jpg").unlink()
    with pytest.raises(InputError, match=r"000000000139\.jpg: no such file, but instances_val2017\.json asks for it"):
        list_source("coco_instances", tmp_path, "val")


@pytest.mark.parametrize("shape", [{"size": [2, 2], "counts": [1, 2]}, {"size": [3, 2], "counts": [4]}, [[1, 2, 3, 4]]])
def test_shapes_that_cannot_be(shape: Any) -> None:
    with pytest.raises(InputError):
        region(shape, (2, 2))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools 2.0.11 with numpy 2
def test_run_lengths_and_polygons_agree_with_pycocotools() -> None:
    coco_mask = pytest.importorskip("pycocotools.mask", reason="NO PYCOCOTOOLS: run lengths are not compared with it")
    rng = np.random.default_rng(4)
    for size in ((1, 1), (7, 5), (64, 48), (200, 300)):
        for density in (0.0, 0.02, 0.5, 1.0):
            mask = rng.random(size) < density
            encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            text = encoded["counts"].decode("ascii")
            assert sum(run_lengths(text)) == mask.size
            assert (region({"size": list(size), "counts": text}, size) == mask).all()
    for _ in range(20):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radius = rng.uniform(20, 45, 9)
        polygon = np.stack([60 + radius * np.cos(angles), 50 + radius * np.sin(angles)], axis=1).ravel().tolist()
        theirs = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([polygon], 100, 120))).astype(bool)
        ours = region([polygon], (100, 120))
        assert (ours & theirs).sum() / (ours | theirs).sum() > 0.96
