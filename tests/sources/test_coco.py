"""COCO's two formats on a tiny folder, and the masks against pycocotools where it is installed."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segkit.labels import Label, LabelSpace
from synthgen.errors import InputError, LabelError
from synthgen.images import write_image
from synthgen.labels import read_label_space
from synthgen.recipe import Recipe
from synthgen.refine.stage import settings
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


def write_set(root: Path, annotations: list[Any], images: list[Any] | None = None, write: bool = True) -> None:
    """A COCO folder of pictures of 8 x 10 px, each of a grey of its own."""
    images = [{"id": 1, "file_name": "a.png", "height": 8, "width": 10}] if images is None else images
    body = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "Cat"}, {"id": 2, "name": "dog"}],
    }
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations/instances_val2017.json").write_text(json.dumps(body))
    for number, item in enumerate(images if write else []):
        path = root / "val2017" / item["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(np.full((8, 10, 3), 10 * number, np.uint8), path)


def shape(**changes: Any) -> dict[str, Any]:
    return {"id": 7, "image_id": 1, "category_id": 1, "segmentation": rectangle(1, 1, 4, 4), "iscrowd": 0, **changes}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"segmentation": [[1, 1, float("nan"), 1, 4, 4]]}, "must be a list of finite numbers"),
        ({"segmentation": [[1, 1, 1e400, 1, 4, 4]]}, "must be a list of finite numbers"),
        ({"segmentation": [[1, 1, 4, 1, 4]]}, "polygon of 5 numbers: x and y come in pairs"),
        ({"segmentation": [1, 1, 4, 1, 4]}, "polygon of 5 numbers: x and y come in pairs"),
        ({"segmentation": [[1, 1, "x", 1, 4, 4]]}, "has values that are no numbers"),
        ({"segmentation": [[1, 1, None, 1, 4, 4]]}, "must be a list of finite numbers"),
        ({"segmentation": [[[1, 1], [4, 1], [4, 4]]]}, "must be a list of finite numbers"),
        ({"segmentation": [[1, [1], 4, 1, 4, 4]]}, "has values that are no numbers"),
        ({"segmentation": None}, "has no segmentation, and bbox None is no"),
        ({"segmentation": []}, "has no segmentation, and bbox None is no"),
        ({"segmentation": [[]], "bbox": [1, 1, -2, 2]}, r"bbox \[1, 1, -2, 2\] is no \[x, y, width, height\]"),
        ({"segmentation": [], "bbox": [1, 1, float("nan"), 2]}, "has no segmentation, and bbox"),
        ({"segmentation": [], "bbox": {"x": 1}}, "has no segmentation, and bbox"),
        ({"segmentation": 3}, "is no list of polygons and no run lengths"),
        ({"iscrowd": "no"}, "`iscrowd` must be a whole number, not 'no'"),
        ({"segmentation": "a"}, "is no list of polygons and no run lengths"),
        ({"segmentation": {}}, "has no segmentation"),
        ({"segmentation": {"counts": [80]}}, "must be"),
        ({"segmentation": {"size": [8, 10]}}, "must be"),
        ({"segmentation": {"size": [10, 8], "counts": [80]}}, r"of size \[10, 8\] do not fit an image of 8 x 10 px"),
        ({"segmentation": {"size": "8", "counts": [80]}}, "must be"),
        ({"segmentation": {"size": [8, 10], "counts": [79]}}, "run lengths of 79 px do not fit"),
        ({"segmentation": {"size": [8, 10], "counts": [-1, 81]}}, "must be whole numbers of pixels"),
        ({"segmentation": {"size": [8, 10], "counts": [10**12]}}, "must be whole numbers of pixels"),
        ({"segmentation": {"size": [8, 10], "counts": ["80"]}}, "must be whole numbers of pixels"),
        ({"segmentation": {"size": [8, 10], "counts": "é"}}, "are not COCO's string"),
        ({"segmentation": {"size": [8, 10], "counts": "o" * 100_000}}, "are not COCO's string"),
        ({"category_id": 9}, "category 9 is not in `categories`, which has '1 Cat, 2 dog'"),
        ({"category_id": None}, "`category_id` must be a whole number, not None"),
        ({"category_id": 1.5}, "`category_id` must be a whole number"),
    ],
)
def test_a_malformed_annotation_is_one_line_with_file_image_and_annotation(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    write_set(tmp_path, [shape(id=6), shape(**changes)])
    with pytest.raises(InputError, match=says) as caught:
        list_source("coco_instances", tmp_path, "val")
    message = str(caught.value)
    assert "instances_val2017.json: image 'a.png': annotation 7: " in message and "\n" not in message


@pytest.mark.parametrize(
    ("annotations", "images", "says"),
    [
        ([shape(image_id=5)], None, "annotation 7: image 5 is not in `images`"),
        ([3], None, "`annotations` must be a list of objects"),
        ([], [{"id": 1, "file_name": 3, "height": 8, "width": 10}], "image 1: `file_name` must be a text, not 3"),
        ([], [{"id": 1, "file_name": "a.png", "height": "x", "width": 10}], "image 1: `height` must be a whole number"),
        ([], [{"id": 1, "file_name": "a.png", "height": 10**6, "width": 10**6}], "claims 1000000 x 1000000 pixels"),
        ([], [{"id": 1, "file_name": "a.png", "height": 0, "width": 9}], "claims 0 x 9 pixels"),
        ([], [{"id": 1, "file_name": "../a.png", "height": 8, "width": 10}], "leads out of the dataset"),
        ([], [{"id": 1, "file_name": "/etc/a.png", "height": 8, "width": 10}], "leads out of the dataset"),
        ([], [{"id": 1, "file_name": "b\\..\\..\\a.png", "height": 8, "width": 10}], "leads out of the dataset"),
        (
            [],
            [{"id": n, "file_name": "a.png", "height": 8, "width": 10} for n in (1, 2)],
            "image 2: is the file 'a.png', and so is image 1",
        ),
        ([], [{"id": 1, "file_name": f"{n}.png", "height": 8, "width": 10} for n in (1, 2)], "this id occurs twice"),
        ([shape(iscrowd=1), shape(iscrowd=1)], None, "all 2 annotations are crowds .* set iscrowd to 0"),
    ],
)
def test_a_file_that_contradicts_itself_is_one_line(
    tmp_path: Path, annotations: list[Any], images: list[Any] | None, says: str
) -> None:
    write_set(tmp_path, annotations, images, write=False)
    with pytest.raises(InputError, match=says) as caught:
        list_source("coco_instances", tmp_path, "val")
    assert "instances_val2017.json" in str(caught.value) and "\n" not in str(caught.value)


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


def test_a_name_that_no_file_can_have_is_one_line(tmp_path: Path) -> None:
    for name in ("x" * 100_000, "\u732b" * 90 + ".png", "a/" * 3000 + "b.png"):
        write_set(tmp_path, [shape()], [{"id": 1, "file_name": name, "height": 8, "width": 10}], write=False)
        _annotations.cache_clear()
        with pytest.raises(InputError, match=r"image 1: file .* is longer than the name of a file can be"):
            list_source("coco_instances", tmp_path, "val")


def test_conversion_refuses_names_that_would_fall_together(tmp_path: Path) -> None:
    images = [{"id": n, "file_name": name, "height": 8, "width": 10} for n, name in ((1, "a/0.png"), (2, "a_0.png"))]
    write_set(tmp_path, [shape(), shape(image_id=2)], images)
    space = LabelSpace("pets", (Label(0, "background"), Label(1, "cat")), 0)
    with pytest.raises(InputError, match=r"a/0\.png and .*a_0\.png: both would be a_0"):
        list(convert("coco_instances", tmp_path, "val", space, tmp_path / "out"))


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


PETS = LabelSpace("pets", (Label(0, "background"), Label(1, "cat"), Label(2, "dog")), 0)


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


def test_each_malformed_annotation_has_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    odd = [[1, 1, 4, 1, 4]]
    write_set(tmp_path, [shape(id=1, segmentation=odd), shape(id=2), shape(id=3, category_id=9), shape(id=4, bbox=0)])
    with pytest.raises(InputError, match=r"annotation 1: polygon of 5 .*\(and 1 more annotations of this file\)"):
        list_source("coco_instances", tmp_path, "val")
    assert [record.getMessage().count("annotation 3: category 9") for record in caplog.records] == [1]


def test_two_categories_of_one_id_and_two_spellings_of_one_file_are_refused(tmp_path: Path) -> None:
    whole, apart = (unicodedata.normalize(form, "caf\u00e9.png") for form in ("NFC", "NFD"))
    images = [{"id": n, "file_name": name, "height": 8, "width": 10} for n, name in ((1, whole), (2, apart))]
    write_set(tmp_path, [shape(), shape(image_id=2)], images)
    (tmp_path / "val2017" / apart).unlink()
    with pytest.raises(InputError, match="are one file"):
        list_source("coco_instances", tmp_path, "val")
    path = tmp_path / "annotations/instances_val2017.json"
    path.write_text(path.read_text().replace('{"id": 2, "name": "dog"}', '{"id": 1, "name": "dog"}'))
    _annotations.cache_clear()
    with pytest.raises(InputError, match="category 1 is 'Cat' and 'dog'"):
        list_source("coco_instances", tmp_path, "val")


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


def test_a_bad_file_is_refused_with_the_settings_before_anything_is_rendered(tmp_path: Path) -> None:
    (tmp_path / "pets.yaml").write_text(json.dumps(PETS.to_json()))
    recipe = Recipe.model_validate(
        {
            "name": "t",
            "labels": {"space": str(tmp_path / "pets.yaml")},
            "support": {"folder": str(tmp_path), "source": "coco_instances", "split": "val"},
        }
    )
    write_set(tmp_path, [shape(), shape(id=8, category_id=2, segmentation=[[1, 2, 3]])])
    with pytest.raises(InputError, match="annotation 8: polygon of 3 numbers"):
        settings(recipe)
    write_set(tmp_path, [shape()])
    _annotations.cache_clear()
    with pytest.raises(InputError, match="no annotation that is read is of class 'dog'"):
        settings(recipe)
    write_set(tmp_path, [shape(), shape(category_id=2)], [{"id": 1, "file_name": "a.png", "height": 9, "width": 10}])
    _annotations.cache_clear()
    with pytest.raises(InputError, match=r"image 'a': is 9 x 10 px \(H x W\), its image 8 x 10"):
        settings(recipe)


def test_a_flag_that_changes_no_size_changes_the_hash(tmp_path: Path) -> None:
    write_set(tmp_path, [shape(), shape(category_id=2, iscrowd=1)])
    before = source_hash("coco_instances", tmp_path, "val")
    _annotations.cache_clear()
    write_set(tmp_path, [shape(), shape(category_id=2, iscrowd=0)])
    assert source_hash("coco_instances", tmp_path, "val") != before
