"""Exports of labelling tools, as these write them: the masks to the pixel, and a line for each thing that is wrong."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from segkit.errors import InputError, UserError
from segkit.labels import Label, LabelSpace
from synthgen.cli import app
from synthgen.recipe import Recipe
from synthgen.refine.support import check_support
from synthgen.sources.folder import read_label
from synthgen.sources.label_studio import decode_brush
from synthgen.sources.listing import list_source, source_hash

SPACE = LabelSpace("yard", (Label(0, "background"), Label(1, "tank", (9, 0, 0)), Label(4, "Valve", (0, 9, 0))), 0)
SIZE = (12, 16)  # (H, W)
TANK = np.zeros(SIZE, bool)
TANK[2:8, 3:10] = True
VALVE = np.zeros(SIZE, bool)
VALVE[5:10, 8:14] = True
TRUTH = np.where(VALVE, 4, np.where(TANK, 1, 0)).astype(np.uint8)
"""The valve lies on top of the tank, which is the larger of the two."""


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE[::-1], (80, 90, 100)).save(path)


def png_of(mask: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()


def shape(label: str, points: list[list[float]], kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


TANK_POLYGON = shape("tank", [[3, 2], [10, 2], [10, 8], [3, 8]])
VALVE_BOX = shape("valve", [[14, 10], [8, 5]], "rectangle")


def labelme(root: Path, *shapes: dict[str, Any], name: str = "a", **changes: Any) -> Path:
    photo(root / f"{name}.jpg")
    content = {"version": "5.4", "shapes": list(shapes), "imagePath": f"{name}.jpg", "imageData": None}
    content |= {"imageHeight": SIZE[0], "imageWidth": SIZE[1], **changes}
    (root / f"{name}.json").write_text(json.dumps(content))
    return root


def cvat(root: Path, label_map: str = "# label:color_rgb:parts:actions\nbackground:0,0,0::\n") -> Path:
    photo(root / "JPEGImages" / "cam1" / "a.png")
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[TANK], colours[VALVE] = (250, 50, 83), (51, 221, 255)
    (root / "SegmentationClass" / "cam1").mkdir(parents=True)
    (root / "SegmentationClass" / "cam1" / "a.png").write_bytes(png_of(colours))
    lines = label_map + "tank:250,50,83::\nvalve:51,221,255:left,right:turn\n"
    (root / "labelmap.txt").write_text(lines)
    return root


def roboflow(root: Path, classes: str = "Pixel Value, Class\n0, background\n1, tank\n2, valve\n") -> Path:
    photo(root / "a_jpg.rf.0123.jpg")
    (root / "a_jpg.rf.0123_mask.png").write_bytes(png_of(np.where(TRUTH == 4, 2, TRUTH).astype(np.uint8)))
    (root / "_classes.csv").write_text(classes)
    return root


def brush(mask: np.ndarray) -> list[int]:
    """Label Studio's run lengths of an RGBA picture: here one block of single values, then runs."""
    values = np.repeat(mask.ravel() * 255, 4)
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    bits += "0" + "00" + f"{3:03b}" + "".join(f"{int(value):08b}" for value in values[:4])
    at = 4
    while at < len(values):
        length = next((n for n in range(1, 200) if at + n == len(values) or values[at + n] != values[at]), 200)
        bits += "1" + "10" + f"{length - 1:08b}" + f"{int(values[at]):08b}"
        at += length
    bits += "0" * (-len(bits) % 8)
    return [int(bits[n : n + 8], 2) for n in range(0, len(bits), 8)]


def region(kind: str, label: str, **value: Any) -> dict[str, Any]:
    size = {"original_height": SIZE[0], "original_width": SIZE[1], "image_rotation": 0}
    return {"id": f"r-{label}", "type": kind, "value": {kind: [label], **value}, **size}


TANK_BRUSH = region("brushlabels", "tank", format="rle", rle=brush(TANK))
VALVE_PERCENT = region(
    "polygonlabels", "valve", points=[[50, 500 / 12], [87.5, 500 / 12], [87.5, 1000 / 12], [50, 1000 / 12]]
)


def label_studio(root: Path, *regions: dict[str, Any], **changes: Any) -> Path:
    photo(root / "images" / "a.jpg")
    done = [{"id": 7, "was_cancelled": True, "result": []}, {"id": 8, "result": list(regions)}]
    task = {"id": 3, "data": {"image": "/data/upload/1/0f3a9c2e-a.jpg"}, "annotations": done, **changes}
    tasks = [task, {"id": 4, "data": {"image": "b.jpg"}, "annotations": []}]
    (root / "project-1.json").write_text(json.dumps(tasks))
    return root


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("labelme", lambda root: labelme(root, TANK_POLYGON, VALVE_BOX)),
        ("cvat_masks", cvat),
        ("roboflow_masks", roboflow),
        ("roboflow_masks", lambda root: roboflow(root / "train")),
        ("roboflow_masks", lambda root: roboflow(root, "0, background\n1, tank\n2, valve\n")),  # no head
        ("label_studio", lambda root: label_studio(root, TANK_BRUSH, VALVE_PERCENT)),
    ],
)
def test_masks_are_read_to_the_pixel_and_converted(tmp_path: Path, name: str, build: Callable[[Path], Path]) -> None:
    root = tmp_path / "export"
    build(root)
    (pair,) = list_source(name, root)
    assert np.array_equal(read_label(pair, SPACE), TRUTH)
    labels = tmp_path / "labels.yaml"
    labels.write_text(json.dumps(SPACE.to_json()))
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["convert", name, str(root), str(out), "--space", str(labels)])
    assert result.exit_code == 0, result.output
    (mask,) = (out / "labels").iterdir()
    assert np.array_equal(np.asarray(Image.open(mask)), TRUTH)
    without = CliRunner().invoke(app, ["convert", name, str(root), str(tmp_path / "other")])
    assert without.exit_code == 0, without.output
    (mask,) = (tmp_path / "other" / "labels").iterdir()  # ids of its own, in the order of the names
    assert np.array_equal(np.asarray(Image.open(mask)), np.where(TRUTH == 4, 2, TRUTH))


def test_labelmes_other_shapes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    part = base64.b64encode(png_of(TANK[2:8, 3:10])).decode()
    shapes = [
        shape("tank", [[3, 2], [9, 7]], "mask", mask=part),
        shape("valve", [[12.5, 4.5], [12.5, 6.8]], "circle"),
        shape("valve", [[1, 1]], "point"),
        shape("valve", [[1, 1], [2, 2]]),
    ]
    with caplog.at_level(logging.WARNING):
        (pair,) = list_source("labelme", labelme(tmp_path / "in" / "side", *shapes).parent)
    mask = read_label(pair, SPACE)
    assert np.array_equal(mask == 1, TANK)
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]]
    assert np.array_equal(mask == 4, np.hypot(ys - 4, xs - 12) < 2.3)
    assert "2 points, lines and polygons of fewer than three points have no area" in caplog.text


def test_later_shapes_lie_on_top(tmp_path: Path) -> None:
    (pair,) = list_source("labelme", labelme(tmp_path, VALVE_BOX, TANK_POLYGON))
    assert np.array_equal(read_label(pair, SPACE) == 1, TANK)


@pytest.mark.parametrize(
    ("changes", "shapes", "says"),
    [
        ({}, [shape("tank", [[1, 1], [2, float("nan")], [3, 3]])], r"a\.json: shape 0 \('tank'\): polygon .* finite"),
        ({}, [TANK_POLYGON, shape("tank", [[1], [2, 2]])], r"shape 1 \('tank'\): points .* must be a list of \[x, y\]"),
        ({}, [shape("tank", [[1, 1]], "rectangle")], r"a rectangle has two points, this has 1"),
        ({}, [shape("tank", [[1, 1], [2, 2]], "cuboid")], r"shape_type 'cuboid' is not known"),
        ({}, [shape("tank", [[1, 1], [2, 2]], "mask", mask="?")], r"mask '\?' is not base64"),
        ({}, [shape("tank", [[15, 1], [20, 2]], "mask", mask=base64.b64encode(png_of(TANK)).decode())], "leaves the"),
        ({}, [{**TANK_POLYGON, "label": None}], r"shape 0 \(None\): `label` must be a text"),
        ({"imageHeight": 16, "imageWidth": 12}, [TANK_POLYGON], r"lies on its side"),
        ({"imageHeight": None}, [TANK_POLYGON], r"a\.json: `imageHeight` must be a whole number"),
    ],
)
def test_what_is_wrong_in_a_labelme_file_is_told_with_file_and_shape(
    tmp_path: Path, changes: dict[str, Any], shapes: list[dict[str, Any]], says: str
) -> None:
    with pytest.raises(InputError, match=says) as caught:
        list_source("labelme", labelme(tmp_path, *shapes, **changes))
    assert str(caught.value).count("a.json") <= 1 and "\n" not in str(caught.value)


def test_every_problem_of_an_export_is_told_and_a_missing_picture_is_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labelme(tmp_path, shape("tank", [[1, 1]], "circle"), shape("valve", [[1, 1]], "rectangle"))
    (labelme(tmp_path, TANK_POLYGON, name="b") / "b.jpg").unlink()
    with (
        caplog.at_level(logging.ERROR),
        pytest.raises(InputError, match=r"shape 0 \('tank'\).*\(and 2 more problems\)"),
    ):
        list_source("labelme", tmp_path)
    assert "shape 1 ('valve')" in caplog.text and "its picture 'b.jpg' is not in" in caplog.text


@pytest.mark.parametrize(
    ("changes", "regions", "says"),
    [
        ({}, [{**TANK_BRUSH, "image_rotation": 90}], r"task 3: region 'r-tank': is rotated"),
        ({}, [{**TANK_BRUSH, "value": {"rle": [1]}}], r"must have one label of brushlabels"),
        ({}, [region("brushlabels", "tank", rle=brush(TANK)[:-9])], r"end too early"),
        (
            {},
            [region("brushlabels", "tank", rle=brush(TANK[:, 1:]))],
            r"holds 720 values of 8 bits, not the RGBA of 12 x 16",
        ),
        ({}, [region("brushlabels", "tank", rle=[300])], r"must be a list of bytes"),
        ({}, [region("rectanglelabels", "tank", x=1, y=None, width=1, height=1)], r"bbox \[1, None, 1, 1\]"),
        ({}, [{**TANK_BRUSH, "original_width": 8}], r"its image 12 x 16"),
        ({"data": {"text": "no"}}, [TANK_BRUSH], r"task 3: its data .* names no picture"),
    ],
)
def test_what_is_wrong_in_label_studios_file_is_told_with_task_and_region(
    tmp_path: Path, changes: dict[str, Any], regions: list[dict[str, Any]], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        list_source("label_studio", label_studio(tmp_path, *regions, **changes))


@pytest.mark.parametrize(
    ("name", "build", "picture"),
    [
        ("labelme", lambda root: labelme(root, TANK_POLYGON, imagePath=""), "a.jpg"),
        ("cvat_masks", cvat, "JPEGImages/cam1/a.png"),
        ("roboflow_masks", roboflow, "a_jpg.rf.0123.jpg"),
    ],
)
def test_pictures_of_cameras_have_suffixes_in_capitals(
    tmp_path: Path, name: str, build: Callable[[Path], Path], picture: str
) -> None:
    build(tmp_path)
    there = tmp_path / picture
    there.rename(there.with_suffix(there.suffix.upper()))
    (pair,) = list_source(name, tmp_path)
    assert pair.image == there.with_suffix(there.suffix.upper())


def test_boxes_and_ellipses_of_label_studio_are_in_percent(tmp_path: Path) -> None:
    box = region("rectanglelabels", "tank", x=300 / 16, y=200 / 12, width=700 / 16, height=600 / 12, rotation=0)
    (pair,) = list_source("label_studio", label_studio(tmp_path / "box", box))
    assert np.array_equal(read_label(pair, SPACE) == 1, TANK)
    ellipse = region("ellipselabels", "valve", x=50, y=50, radiusX=25, radiusY=100 / 6, rotation=0)
    (pair,) = list_source("label_studio", label_studio(tmp_path / "ellipse", ellipse))
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]]
    assert np.array_equal(read_label(pair, SPACE) == 4, ((xs - 7.5) / 4) ** 2 + ((ys - 5.5) / 2) ** 2 < 0.99)


def test_brush_masks_are_read_bit_by_bit() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random(SIZE) < rng.random()
        assert np.array_equal(decode_brush(brush(mask), SIZE), mask)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda root: cvat(root, "tank;1,2,3\n"), r"labelmap\.txt:1: 'tank;1,2,3' must be name:r,g,b:parts:actions"),
        (lambda root: cvat(root, "pipe:250,50,83::\n"), r"labelmap\.txt:2: 'tank' has the colour 250,50,83 of 'pipe'"),
    ],
)
def test_a_label_map_that_cannot_be_read_is_told_by_its_line(
    tmp_path: Path, build: Callable[[Path], Path], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        list_source("cvat_masks", build(tmp_path))


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ("Pixel Value, Class\nred, tank\n", r"_classes\.csv:2: 'red, tank' must be a pixel value"),
        ("Pixel Value, Class\n1, tank\n1, valve\n", r"_classes\.csv:3: the value 1 has two names"),
        ("Pixel Value, Class\n", r"_classes\.csv: has no class"),
    ],
)
def test_a_table_of_classes_that_cannot_be_read_is_told_by_its_line(tmp_path: Path, classes: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        list_source("roboflow_masks", roboflow(tmp_path, classes))


def test_values_and_colours_of_no_class_are_found_before_anything_is_made(tmp_path: Path) -> None:
    labels = tmp_path / "labels.yaml"
    labels.write_text(json.dumps(SPACE.to_json()))
    root = roboflow(tmp_path / "set", "Pixel Value, Class\n0, background\n1, tank\n")
    support = {"folder": str(root), "source": "roboflow_masks"}
    recipe = Recipe.model_validate({"name": "x", "labels": {"space": str(labels)}, "support": support})
    with pytest.raises(UserError, match=r"_mask\.png: stored values 2 are not of this dataset"):
        check_support(recipe, SPACE, "one")
    (root / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, tank\n2, valve\n")
    check_support(recipe, SPACE, "two")
    before = source_hash("roboflow_masks", root)
    (root / "_classes.csv").write_text("Pixel Value, Class\n0, background\n2, tank\n1, valve\n")
    other = source_hash("roboflow_masks", root)
    assert other != before, "which class is which is content"
    mask = root / "a_jpg.rf.0123_mask.png"
    mask.write_bytes(png_of(np.roll(np.asarray(Image.open(mask)), 1)).ljust(mask.stat().st_size))
    assert source_hash("roboflow_masks", root) != other


def test_pictures_that_were_not_saved_are_told(tmp_path: Path) -> None:
    (cvat(tmp_path) / "JPEGImages" / "cam1" / "a.png").unlink()
    with pytest.raises(InputError, match=r"a\.png: its picture 'a' is not in .*JPEGImages/cam1: put it there"):
        list_source("cvat_masks", tmp_path)


def test_a_colour_of_no_class_is_named(tmp_path: Path) -> None:
    root = cvat(tmp_path)
    lines = (root / "labelmap.txt").read_text().replace("51,221,255", "51,221,254")
    (root / "labelmap.txt").write_text(lines)
    (pair,) = list_source("cvat_masks", root)
    with pytest.raises(UserError, match=r"a\.png: stored values \[51, 221, 255\] are not of this dataset"):
        read_label(pair, SPACE)


def test_a_picture_whose_name_no_file_can_have_is_one_line(tmp_path: Path) -> None:
    labelme(tmp_path, TANK_POLYGON, imagePath="x" * 100_000)
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(InputError, match=r"a\.json: its picture 'xxx.* is not in"):
        list_source("labelme", tmp_path)


@pytest.mark.parametrize(
    ("name", "build", "label"),
    [
        ("labelme", lambda root: labelme(root, TANK_POLYGON), "a.json"),
        ("cvat_masks", cvat, "SegmentationClass/cam1/a.png"),
        ("roboflow_masks", roboflow, "a_jpg.rf.0123_mask.png"),
        ("label_studio", lambda root: label_studio(root, TANK_BRUSH), "project-1.json"),
    ],
)
def test_what_macos_puts_beside_a_file_is_no_label(
    tmp_path: Path, name: str, build: Callable[[Path], Path], label: str
) -> None:
    path = build(tmp_path) / label
    path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X\xb0")
    assert len(list_source(name, tmp_path)) == 1


def test_labelme_files_of_a_folder_and_of_those_in_it_are_all_read(tmp_path: Path) -> None:
    labelme(tmp_path, TANK_POLYGON)
    (tmp_path / "more").mkdir()
    labelme(tmp_path / "more", VALVE_BOX)
    assert [pair.stem for pair in list_source("labelme", tmp_path)] == ["a", "more/a"]


def test_two_labelme_files_of_one_picture_are_refused(tmp_path: Path) -> None:
    labelme(tmp_path, TANK_POLYGON)
    labelme(tmp_path, VALVE_BOX, name="b", imagePath="a.jpg")  # it was called so before somebody renamed it
    with pytest.raises(InputError, match=r"b\.json: .*a\.jpg is the picture of .*a\.json as well"):
        list_source("labelme", tmp_path)


def test_files_that_label_nothing_are_told_as_such_and_not_as_missing(tmp_path: Path) -> None:
    labelme(tmp_path / "empty", shape("tank", [[1, 1]], "point"))
    with pytest.raises(InputError, match=r"none of its 1 LabelMe files has an area"):
        list_source("labelme", tmp_path / "empty")
    with pytest.raises(InputError, match=r"none of its 2 tasks has an area that somebody has drawn"):
        list_source("label_studio", label_studio(tmp_path / "tasks"))
    (tmp_path / "min").mkdir()
    (tmp_path / "min" / "p.json").write_text('[{"id": 1, "image": "a.jpg", "label": []}]')
    with pytest.raises(InputError, match=r"p\.json: is no list of tasks with `annotations`.* not as JSON-MIN"):
        list_source("label_studio", tmp_path / "min")
    with pytest.raises(InputError, match=r"p\.json: is no file of LabelMe"):
        list_source("labelme", tmp_path / "min")


def test_a_result_of_label_studio_whose_type_is_no_text_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"task 3: region 'r-tank': must have one label"):
        list_source("label_studio", label_studio(tmp_path, {**TANK_BRUSH, "type": ["x"], "value": {}}))
