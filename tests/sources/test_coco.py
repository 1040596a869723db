"""COCO's two formats on a tiny folder, and the masks against pycocotools where it is installed."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles.coco_sets import PETS, rectangle, shape, write_set
from PIL import Image

from segkit.labels import Label, LabelSpace
from synthgen.errors import InputError, LabelError
from synthgen.images import write_image
from synthgen.labels import read_label_space
from synthgen.refine.support import folder_shots
from synthgen.sources.coco import _annotations, check_shown
from synthgen.sources.coco_shapes import region, run_lengths
from synthgen.sources.convert import convert
from synthgen.sources.folder import read_labelled
from synthgen.sources.listing import list_source, source_hash

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


def test_two_pictures_of_one_name_in_two_folders_stay_two(tmp_path: Path) -> None:
    images = [{"id": n, "file_name": f"seq_{n}/0.png", "height": 8, "width": 10} for n in (1, 2)]
    large = rectangle(1, 1, 7, 7)
    write_set(tmp_path, [shape(segmentation=large), shape(image_id=2, category_id=2, segmentation=large)], images)
    space = LabelSpace("pets", (Label(0, "background"), Label(1, "cat"), Label(2, "dog")), 0)
    pairs = list_source("coco_instances", tmp_path, "val")
    assert [pair.stem for pair in pairs] == ["seq_1/0", "seq_2/0"]
    for class_id, pair in enumerate(pairs, start=1):
        image, mask = read_labelled(pair, space)
        assert image[0, 0, 0] == 10 * (class_id - 1) and set(np.unique(mask)) == {0, class_id}
    shots = folder_shots(tmp_path, space, [1, 2], 1, 0, pairs)
    assert [(int(shot.image[0, 0, 0]), shot.class_id) for shot in shots] == [(0, 1), (10, 2)]
    assert list(convert("coco_instances", tmp_path, "val", space, tmp_path / "out"))[-1] == (2, 2)
    assert sorted(path.name for path in (tmp_path / "out/labels").iterdir()) == ["seq_1_0.png", "seq_2_0.png"]


def test_what_is_left_out_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = [{"id": n, "file_name": f"{n}.png", "height": 8, "width": 10} for n in (1, 2, 3)]
    flat = [[1, 1, 5, 5], [1, 1, 4, 1, 4, 4, 1, 4]]
    write_set(tmp_path, [shape(segmentation=flat), shape(category_id=2)], images)
    (pair,) = list_source("coco_instances", tmp_path, "val")
    space = LabelSpace("pets", (Label(0, "background"), Label(1, "cat")), 0)
    mask = read_labelled(pair, space)[1]
    assert set(np.unique(mask)) == {0, 255}, "the dog lies on the cat"
    assert "2 images without annotations are left out" in caplog.text
    assert "1 polygons of fewer than three points are passed over, the first in" in caplog.text
    assert "not in label space 'pets' and read as unlabelled (255): dog" in caplog.text


def test_numbers_as_other_tools_write_them_and_stale_areas(tmp_path: Path) -> None:
    images = [{"id": "1", "file_name": "a.png", "height": 8.0, "width": 10}]
    large = shape(image_id=1.0, category_id="1", segmentation=[0, 0, 9, 0, 9, 8, 0, 8], area=0)
    small = shape(image_id="1", category_id=2, segmentation=rectangle(2, 2, 4, 4), area=10**6)
    write_set(tmp_path, [small, large], images)
    (pair,) = list_source("coco_instances", tmp_path, "val")
    space = LabelSpace("pets", (Label(0, "background"), Label(1, "cat"), Label(2, "dog")), 0)
    mask = read_labelled(pair, space)[1]
    assert [(mask == i).sum() for i in (0, 1, 2)] == [8, 68, 4], "the small one lies on the large one"


def test_a_file_whose_accents_were_taken_apart_is_found(tmp_path: Path) -> None:
    whole, apart = (unicodedata.normalize(form, "caf\u00e9.png") for form in ("NFC", "NFD"))
    write_set(tmp_path, [shape()], [{"id": 1, "file_name": whole, "height": 8, "width": 10}])
    (tmp_path / "val2017" / whole).rename(tmp_path / "val2017" / apart)
    (pair,) = list_source("coco_instances", tmp_path, "val")
    assert pair.image.name == apart


def test_a_file_in_which_nothing_is_annotated_is_not_told_as_missing(tmp_path: Path) -> None:
    write_set(tmp_path, [])
    with pytest.raises(InputError, match=r"instances_val2017\.json: has no annotation: none of its 1 images"):
        list_source("coco_instances", tmp_path, "val")


def test_a_picture_in_other_capitals_is_told_where_it_lies(tmp_path: Path) -> None:
    """A file that Windows has made: CVAT's pictures are looked for in four folders."""
    write_set(tmp_path, [shape()], write=False)
    (tmp_path / "annotations/instances_val2017.json").rename(tmp_path / "annotations/instances_default.json")
    (tmp_path / "images").mkdir()
    write_image(np.zeros((8, 10, 3), np.uint8), tmp_path / "images/A.PNG")
    with pytest.raises(InputError, match=r"images/a\.png: no such file.*; there is A\.PNG: upper and lower case"):
        list_source("coco_export", tmp_path)


def test_a_box_without_a_shape_is_unlabelled_and_not_background(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    box = shape(id=8, category_id=2, segmentation=[], bbox=[3.0, 2, 6, 5])
    write_set(tmp_path, [box, shape()])
    (pair,) = list_source("coco_instances", tmp_path, "val")
    mask = read_labelled(pair, PETS)[1]
    expected = np.zeros((8, 10), np.uint8)
    expected[2:7, 3:9] = 255
    expected[1:4, 1:4] = 1  # what has a shape keeps its label inside the box
    assert (mask == expected).all()
    assert "1 annotations are boxes without a segmentation" in caplog.text and "annotation 8" in caplog.text
    del box["segmentation"]
    write_set(tmp_path, [box])
    _annotations.cache_clear()
    with pytest.raises(InputError, match=r"all 1 annotations are boxes without a segmentation: .* export polygons"):
        list_source("coco_instances", tmp_path, "val")


def test_crowds_are_told_by_category_and_a_flag_may_be_a_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    brush = {"size": [8, 10], "counts": [0, 16, 64]}  # the first two columns, as CVAT's brush writes them
    write_set(tmp_path, [shape(iscrowd="0"), shape(category_id=2, segmentation=brush, iscrowd=True)])
    (pair,) = list_source("coco_instances", tmp_path, "val")
    mask = read_labelled(pair, PETS)[1]
    assert (mask[:, :2] == 255).sum() == 13 and (mask == 1).sum() == 9
    assert "1 of 2 annotations are crowds (iscrowd 1) and read as unlabelled (255): 'dog' 1;" in caplog.text


@pytest.mark.parametrize("name", ["CAT", "c\u200dat"])
def test_a_category_in_another_spelling_is_the_class(tmp_path: Path, name: str) -> None:
    write_set(tmp_path, [shape()])
    (pair,) = list_source("coco_instances", tmp_path, "val")
    space = LabelSpace("pets", (Label(0, "background"), Label(5, name)), 0)
    assert (read_labelled(pair, space)[1] == 5).sum() == 9


def test_underscores_and_hyphens_of_a_category_do_not_matter_and_a_misspelt_one_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_set(tmp_path, [shape(), shape(category_id=2, segmentation=rectangle(5, 5, 9, 8))])
    path = tmp_path / "annotations/instances_val2017.json"
    path.write_text(path.read_text().replace("Cat", "Traffic_Light").replace('"dog"', '"excavater"'))
    space = LabelSpace("site", (Label(0, "background"), Label(1, "traffic-light"), Label(2, "excavator")), 0)
    pairs = list_source("coco_instances", tmp_path, "val")
    mask = read_labelled(pairs[0], space)[1]
    assert [(mask == value).sum() for value in (1, 2, 255)] == [9, 0, 12]
    assert "excavater (did you mean 'excavator'?)" in caplog.text
    with pytest.raises(InputError, match=r"is of class 'excavator' \(id 2\).*did you mean 'excavater'\?"):
        check_shown(pairs, space, [1, 2])
    check_shown(pairs, space, [0, 1])


def test_a_flag_that_changes_no_size_changes_the_hash(tmp_path: Path) -> None:
    write_set(tmp_path, [shape(), shape(category_id=2, iscrowd=1)])
    before = source_hash("coco_instances", tmp_path, "val")
    _annotations.cache_clear()
    write_set(tmp_path, [shape(), shape(category_id=2, iscrowd=0)])
    assert source_hash("coco_instances", tmp_path, "val") != before
