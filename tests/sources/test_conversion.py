"""`synthgen convert` between labelling formats: the same masks to the pixel, objects apart, losses counted."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from segkit.colours import colours_of, voc_colour
from segkit.labels import Label, LabelSpace
from synthgen.cli import app
from synthgen.errors import InputError, LabelError
from synthgen.sources.coco_instances import InstanceDecoder
from synthgen.sources.convert import converted
from synthgen.sources.folder import read_label
from synthgen.sources.label_studio import decode_brush
from synthgen.sources.listing import list_source
from synthgen.sources.own_space import space_of
from synthgen.sources.writers.label_studio import encode_brush
from synthgen.sources.writing import available, find

SIZE = (24, 32)  # (H, W)
SPACE = LabelSpace("yard", (Label(0, "background"), Label(1, "tank", (9, 0, 0)), Label(4, "valve", (0, 9, 0))), 0)
TANK = [[3, 2], [20.5, 2], [20.5, 12.25], [3, 12]]
FAR_TANK = [[23, 18], [30, 18], [30, 23]]
VALVE = [[15, 8], [28, 8], [28, 17], [15, 17]]
HOLE = [[17, 10], [20, 10], [20, 12], [17, 12]]
WITH_OBJECTS = ("coco_export", "labelme", "label_studio")


def shape(label: str, points: list[list[float]], **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": "polygon", "group_id": None, "flags": {}, **more}


def labelme(root: Path, *shapes: dict[str, Any], name: str = "a") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE[::-1], (80, 90, 100)).save(root / f"{name}.jpg")
    content = {"shapes": list(shapes), "imagePath": f"{name}.jpg", "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    (root / f"{name}.json").write_text(json.dumps(content))
    return root


def yard(root: Path) -> Path:
    """Two tanks, a valve on the larger one, a tank in a hole of the valve: in another order other masks."""
    labelme(root, *(shape(*one) for one in (("tank", TANK), ("tank", FAR_TANK), ("valve", VALVE), ("tank", HOLE))))
    return labelme(root, shape("valve", VALVE), shape("tank", TANK), name="b")


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["convert", *map(str, arguments)])
    assert result.exit_code in (0, 2), result.output
    return result


def masks(source: str, folder: Path, space: LabelSpace) -> dict[str, np.ndarray]:
    return {pair.stem: read_label(pair, space) for pair in list_source(source, folder)}


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "labels.yaml"
    path.write_text(json.dumps(SPACE.to_json()))
    return path


@pytest.mark.parametrize(("first", "second"), list(itertools.product(available(), available())))
def test_there_and_back_gives_the_same_pixels(tmp_path: Path, labels: Path, first: str, second: str) -> None:
    truth = masks("labelme", yard(tmp_path / "yard"), SPACE)
    assert [int(truth["a"][at]) for at in ((0, 0), (5, 5), (9, 16), (11, 18), (19, 28))] == [0, 1, 4, 1, 1]
    steps = ((tmp_path / "yard", "labelme", first, tmp_path / "1"), (tmp_path / "1", first, second, tmp_path / "2"))
    for folder, source, to, out in steps:
        done = call(source, folder, out, "--space", labels, "--to", to)
        assert done.exit_code == 0 and f"{out}: 2 images of {source}" in done.stdout
    back = masks(second, tmp_path / "2", SPACE)
    assert back.keys() == truth.keys()
    for stem, mask in truth.items():
        assert np.array_equal(back[stem], mask), stem


@pytest.mark.parametrize("to", WITH_OBJECTS)
def test_objects_stay_apart_and_polygons_polygons(tmp_path: Path, to: str) -> None:
    done = call("labelme", yard(tmp_path / "yard"), tmp_path / "out", "--to", to)
    assert done.exit_code == 0
    counts = {}
    for pair in list_source(to, tmp_path / "out"):
        assert isinstance(pair.decode, InstanceDecoder)
        counts[pair.stem] = len(pair.decode.instances)
        if pair.stem == "a":  # readers of all three draw it in this order: nothing is hidden
            assert all(isinstance(one.shape, tuple) for one in pair.decode.instances)
    assert counts == {"a": 4, "b": 2}
    # COCO's readers draw the larger one first: what lies under the tank is cut from the valve
    assert ("1 hidden parts of objects" in done.stdout) == (to == "coco_export"), done.stdout


def test_what_is_not_carried_is_counted(tmp_path: Path, labels: Path) -> None:
    root = labelme(
        tmp_path / "in",
        shape("tank", TANK, flags={"rusty": True}, description="dented", group_id=3),
        shape("tank", FAR_TANK),
        shape("pipe", HOLE),
        shape("valve", [[5, 5]], shape_type="point"),
    )
    done = call("labelme", root, tmp_path / "out", "--space", labels, "--to", "cvat_masks", "--json")
    report = json.loads(done.stdout)
    assert report["pictures"] == 1 and report["classes"] == ["background", "tank", "valve"]
    assert report["not_carried"] == {
        "objects of class 'pipe', which the label space lacks": 1,
        "points, lines and shapes without area": 1,
        "flags": 1,
        "descriptions": 1,
        "group numbers": 1,
        "objects, as several of one class are one area now": 1,
    }
    told = call("labelme", root, tmp_path / "other", "--space", labels, "--to", "cvat_masks").stdout
    (line,) = [line for line in told.splitlines() if line.startswith("not carried: ")]
    lost = line.removeprefix("not carried: ").split("; ")
    assert sorted(lost) == sorted(f"{count} {what}" for what, count in report["not_carried"].items())
    # what is no class is not background: 255 there, and again after the next conversion
    (mask,) = masks("cvat_masks", tmp_path / "out", SPACE).values()
    assert mask[11, 18] == 255 and mask[0, 0] == 0
    for to in ("labelme", "coco_export", "label_studio", "roboflow_masks", "folder"):
        call("cvat_masks", tmp_path / "out", tmp_path / to, "--space", labels, "--to", to)
        (again,) = masks(to, tmp_path / to, SPACE).values()
        assert np.array_equal(again, mask), to


def test_an_object_without_a_pixel_is_counted_in_masks_too(tmp_path: Path) -> None:
    flat = shape("tank", [[3, 3], [6, 6], [9, 9]])
    root = labelme(tmp_path / "in", shape("tank", TANK), flat)
    for to in ("folder", "coco_export"):
        done = call("labelme", root, tmp_path / to, "--to", to)
        assert "not carried: 1 objects of which no pixel is seen\n" in done.stdout


def test_out_of_distribution_and_a_space_without_background(tmp_path: Path) -> None:
    space = LabelSpace("street", (Label(0, "road", (1, 1, 1)), Label(7, "sky", (2, 2, 2))))
    root = tmp_path / "in"
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    truth = np.zeros(SIZE, np.uint8)
    truth[:4], truth[5:7, 5:9], truth[20:] = 7, 254, 255
    Image.new("RGB", SIZE[::-1]).save(root / "images" / "a.png")
    Image.fromarray(truth).save(root / "labels" / "a.png")
    (root / "labels.yaml").write_text(json.dumps(space.to_json()))
    for to in available():
        assert call("folder", root, tmp_path / to, "--to", to).exit_code == 0
        (back,) = masks(to, tmp_path / to, space).values()
        assert np.array_equal(back, truth), to


def test_without_a_label_space_the_classes_are_those_of_the_export(tmp_path: Path) -> None:
    done = call("labelme", yard(tmp_path / "in"), tmp_path / "out")
    assert done.exit_code == 0 and "labels.yaml has the classes" in done.stdout
    again = tmp_path / "again"
    assert call("folder", tmp_path / "out", again, "--to", "coco_export").exit_code == 0
    categories = json.loads((again / "annotations/instances_default.json").read_text())["categories"]
    assert [(one["id"], one["name"]) for one in categories] == [(2, "tank"), (3, "valve")]
    own = space_of("labelme", list_source("labelme", tmp_path / "in"))
    assert [(label.id, label.name) for label in own.labels] == [(0, "background"), (1, "tank"), (2, "valve")]
    (tmp_path / "out" / "labels.yaml").unlink()
    assert "no file" in call("folder", tmp_path / "out", tmp_path / "x").stderr


def test_colours_tell_classes_apart() -> None:
    assert [voc_colour(n) for n in (0, 1, 2, 15, 255)] == [
        (0, 0, 0), (128, 0, 0), (0, 128, 0), (192, 128, 128), (224, 224, 192),
    ]  # fmt: skip
    assert len({voc_colour(n) for n in range(256)}) == 256
    black = LabelSpace("x", (Label(0, "a"), Label(1, "b")))
    assert colours_of(black)[0] != colours_of(black)[1]
    assert colours_of(SPACE)[4] == (0, 9, 0)


@pytest.mark.parametrize("fill", [0.0, 0.02, 0.5, 1.0])
def test_brush_masks_are_what_label_studio_reads(fill: float) -> None:
    rng = np.random.default_rng(0)
    for size in ((1, 1), SIZE, (300, 400)):
        mask = rng.random(size) < fill
        assert np.array_equal(decode_brush(encode_brush(mask), size), mask)


def test_label_studio_gets_tasks_and_a_configuration(tmp_path: Path) -> None:
    root = labelme(tmp_path / "in", shape('tank "A" & <b>', TANK), name="my photo")
    assert call("labelme", root, tmp_path / "out", "--to", "label_studio").exit_code == 0
    (task,) = json.loads((tmp_path / "out/project.json").read_text())
    assert task["data"]["image"] == "/data/local-files/?d=images/my%20photo.jpg"
    config = ElementTree.fromstring((tmp_path / "out/labelling_config.xml").read_text())
    assert {tag.attrib["value"] for tag in config.iter("Label")} == {'tank "A" & <b>'}
    (pair,) = list_source("label_studio", tmp_path / "out")
    assert pair.image == tmp_path / "out/images/my photo.jpg"


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_pycocotools_sees_the_same_objects(tmp_path: Path) -> None:
    coco_module = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    call("labelme", yard(tmp_path / "in"), tmp_path / "out", "--to", "coco_export")
    coco = coco_module.COCO(str(tmp_path / "out/annotations/instances_default.json"))
    assert {one["name"] for one in coco.loadCats(coco.getCatIds())} == {"tank", "valve"}
    for one in coco.loadAnns(coco.getAnnIds()):
        assert abs(int(coco.annToMask(one).sum()) - one["area"]) <= 0.2 * one["area"]  # its rule for edges is another
        if isinstance(one["segmentation"], dict):
            assert int(coco.annToMask(one).sum()) == one["area"]


def coco_json(pictures: list[str]) -> dict[str, Any]:
    images = [{"id": n, "file_name": name, "height": SIZE[0], "width": SIZE[1]} for n, name in enumerate(pictures, 1)]
    box = [[3, 2, 20, 2, 20, 12, 3, 12]]
    annotations = [
        {"id": n, "image_id": n, "category_id": 1, "segmentation": box, "iscrowd": 0, "bbox": [0, 0, 1, 1],
         "attributes": {"occluded": True, "rotation": 0.0}}
        for n in range(1, len(pictures) + 1)
    ]  # fmt: skip
    return {"images": images, "categories": [{"id": 1, "name": "tank"}], "annotations": annotations}


@pytest.mark.parametrize(
    ("place", "table", "name", "split"),
    [
        ("images", "annotations/instances_default.json", "a.jpg", "default"),
        ("images/default", "annotations/instances_default.json", "a.jpg", "default"),
        ("images/train", "annotations/instances_train.json", "sub/a.jpg", "train"),
        ("train", "train/_annotations.coco.json", "a_jpg.rf.01.jpg", "train"),
        (".", "_annotations.coco.json", "a.jpg", "default"),
        (".", "result.json", "images/0f3a9c2e-a.jpg", "default"),
    ],
)
def test_coco_of_each_tool_is_found_where_that_tool_puts_it(
    tmp_path: Path, place: str, table: str, name: str, split: str
) -> None:
    for path in (tmp_path / place / name, tmp_path / table):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE[::-1]).save(tmp_path / place / name)
    (tmp_path / table).write_text(json.dumps(coco_json([name])))
    (pair,) = list_source("coco_export", tmp_path, split)
    assert int((read_label(pair, SPACE) == 1).sum()) == 170
    done = call("coco_export", tmp_path, tmp_path / "out", "--split", split, "--to", "labelme")
    assert "not carried: 1 attributes\n" in done.stdout


def test_answers_key_points_and_relations_of_label_studio_are_passed_over_and_counted(tmp_path: Path) -> None:
    call("labelme", labelme(tmp_path / "in", shape("tank", TANK)), tmp_path / "ls", "--to", "label_studio")
    path = tmp_path / "ls" / "project.json"
    (task,) = json.loads(path.read_text())
    task["annotations"][0]["result"] += [
        {"type": "choices", "value": {"choices": ["rainy"]}, "id": "q"},
        {"type": "keypointlabels", "value": {"x": 1, "y": 1, "keypointlabels": ["nose"]}, "id": "k"},
        {"type": "relation", "from_id": "r0", "to_id": "k"},
    ]
    path.write_text(json.dumps([task]))
    done = call("label_studio", tmp_path / "ls", tmp_path / "out", "--to", "coco_export")
    assert "not carried: 1 answers; 1 key points; 1 relations" in done.stdout


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    misspelt = call("labelme", yard(tmp_path / "in"), tmp_path / "out", "--to", "labelm")
    assert misspelt.exit_code == 2 and "did you mean 'labelme'?" in misspelt.stderr
    colon = labelme(tmp_path / "colon", shape("tram: red", TANK))
    assert "parts its fields with colons" in call("labelme", colon, tmp_path / "out", "--to", "cvat_masks").stderr
    assert not (tmp_path / "out").exists()
    pairs = list_source("labelme", tmp_path / "in")
    with pytest.raises(LabelError, match="has none of this dataset's classes"):
        list(converted("labelme", pairs, LabelSpace("x", (Label(3, "cat"),)), tmp_path / "other", "folder"))
    many = labelme(tmp_path / "many", *(shape(f"class {n}", TANK) for n in range(260)))
    with pytest.raises(InputError, match="has 260 classes; masks of 8 bits hold 253 and a background"):
        space_of("labelme", list_source("labelme", many))


def test_every_format_can_be_read_again_under_its_name() -> None:
    from synthgen.sources.catalogue import EXPORTS, FOLDER

    assert set(available()) == {*EXPORTS, FOLDER}
    assert {name for name in available() if find(name).OBJECTS} == set(WITH_OBJECTS)


def test_an_export_in_another_split_is_told_with_the_splits_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "train" / "a.jpg")
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(coco_json(["a.jpg"])))
    told = call("coco_export", tmp_path, tmp_path / "out").stderr
    assert "split 'default' (the splits are default, train, valid, val, test): there is no" in told
    assert call("coco_export", tmp_path, tmp_path / "out", "--split", "train").exit_code == 0
