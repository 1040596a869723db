"""What is wrong with a COCO file is a line with file, image and annotation, before anything is made."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from doubles.coco_sets import PETS, shape, write_set

from segkit.labels import Label, LabelSpace
from synthgen.errors import InputError
from synthgen.recipe import Recipe
from synthgen.refine.stage import settings
from synthgen.sources.coco import _annotations
from synthgen.sources.convert import convert
from synthgen.sources.listing import list_source


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
