"""CG-Aug's placement and its object bank, against the rules spelled out pixel by pixel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segkit.labels import Label, LabelSpace
from synthgen.backends import load
from synthgen.errors import InputError, RecipeError
from synthgen.export.label_ids import space_yaml
from synthgen.images import write_image
from synthgen.labels import read_label_space
from synthgen.render.compose.cut_and_paste import anchor_centres, pasted, scaled
from synthgen.render.composition import Composition, Refusal
from synthgen.render.object_bank import ObjectBank, cut_out, read_object_bank
from synthgen.settings import Execution
from synthgen.settings import ObjectBank as Settings

SPACE = read_label_space("cityscapes")
BANK_SPACE = LabelSpace("things", (Label(0, "nothing"), Label(4, "sofa", synonyms=("couch",)), Label(5, "dog"),
                                   Label(6, "car")), background=0)  # fmt: skip


def centres_one_by_one(anchors: np.ndarray, margin: float, step: float, least: float) -> set[tuple[int, int]]:
    """The rule of the paper: a margin that shrinks until a centre is left."""
    height, width = anchors.shape
    while True:
        found = {
            (row, column)
            for row in range(height)
            for column in range(width)
            if anchors[row, column] and min(row, column, height - 1 - row, width - 1 - column) >= margin
        }
        if found or margin <= least:
            return found
        margin = max(margin - step, least)


@settings(deadline=None, max_examples=80)
@given(
    arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.booleans()),
    st.integers(0, 8),
    st.sampled_from([0.5, 1.0, 3.0]),
    st.integers(0, 2),
)
def test_centres_are_those_of_the_largest_margin_that_leaves_one(
    anchors: np.ndarray, margin: int, step: float, least: int
) -> None:
    found = anchor_centres(anchors, max(margin, least), step, least)
    assert {tuple(place) for place in found.tolist()} == centres_one_by_one(anchors, max(margin, least), step, least)


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 11), st.integers(0, 15))
def test_a_pasted_shape_is_whole_and_as_near_to_its_centre_as_the_border_allows(
    height: int, width: int, row: int, column: int
) -> None:
    shape = np.random.default_rng(height * 10 + width).random((height, width)) < 0.7
    mask = pasted(shape, (row, column), (12, 16))
    assert mask.sum() == shape.sum()
    places = [
        (abs(top + height // 2 - row) + abs(left + width // 2 - column), top, left)
        for top in range(12 - height + 1)
        for left in range(16 - width + 1)
    ]
    _, top, left = min(places)
    np.testing.assert_array_equal(mask[top : top + height, left : left + width], shape)


def test_a_shape_keeps_its_aspect_and_never_vanishes_into_no_row() -> None:
    assert scaled(np.ones((10, 20), bool), 40).shape == (20, 40)
    assert scaled(np.ones((1, 50), bool), 5).shape == (1, 5)
    assert scaled(np.eye(8, dtype=bool), 8).tolist() == np.eye(8, dtype=bool).tolist()


def write_bank(folder: Path, masks: list[np.ndarray]) -> Path:
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for number, mask in enumerate(masks):
        write_image(np.zeros((*mask.shape, 3), np.uint8), folder / "images" / f"{number}.png")
        write_image(mask, folder / "labels" / f"{number}.png")
    (folder / "labels.yaml").write_text(yaml.safe_dump(BANK_SPACE.to_json()))
    return folder


def two_things() -> list[np.ndarray]:
    """A sofa in two parts that touch by a corner, and another; a dog; nothing; a car."""
    first, second, third = (np.zeros((20, 20), np.uint8) for _ in range(3))
    first[2:5, 2:8], first[5:8, 8:10], first[12:18, 12:18] = 4, 4, 4
    third[3:13, 4:8], third[0:2, 0:20] = 5, 6
    return [first, second, third]


def bank_of(folder: Path, known: Any = lambda name: True, **changes: Any) -> ObjectBank:
    return read_object_bank(Settings(folder=str(folder), **{"min_px": 4, **changes}), SPACE, ["road", "car"], known)


def test_the_bank_gives_every_connected_part_of_its_classes_and_nothing_else(tmp_path: Path) -> None:
    masks = two_things()
    bank = bank_of(write_bank(tmp_path / "bank", masks))
    rng = np.random.default_rng(0)
    drawn = [bank.draw(rng) for _ in range(200)]
    seen = {(shape.name, shape.spoken, shape.mask.shape, int(shape.mask.sum())) for shape in drawn}
    assert seen == {("sofa", "couch", (6, 8), 24), ("sofa", "couch", (6, 6), 36), ("dog", "dog", (10, 4), 40)}
    np.testing.assert_array_equal(cut_out(masks[2] == 5), np.ones((10, 4), bool))
    again = np.random.default_rng(0)
    assert [bank.draw(again).name for _ in range(200)] == [shape.name for shape in drawn]
    assert {bank_of(tmp_path / "bank", lambda name: name == "dog").draw(rng).name for _ in range(9)} == {"dog"}


def test_the_bank_knows_the_classes_of_annotations_in_any_spelling(tmp_path: Path) -> None:
    picture = tmp_path / "train2017" / "1.png"
    picture.parent.mkdir()
    write_image(np.zeros((20, 20, 3), np.uint8), picture)
    shapes = {1: "Sofa", 2: "dog"}
    annotations = [
        {"id": n, "image_id": 1, "category_id": n, "iscrowd": 0, "area": 36, "bbox": [x, x, 6, 6],
         "segmentation": [[x, x, x + 6, x, x + 6, x + 6, x, x + 6]]}
        for n, x in ((1, 1), (2, 12))
    ]  # fmt: skip
    document = {
        "images": [{"id": 1, "file_name": "1.png", "height": 20, "width": 20}],
        "categories": [{"id": n, "name": name} for n, name in shapes.items()],
        "annotations": annotations,
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train2017.json").write_text(json.dumps(document))
    (tmp_path / "labels.yaml").write_text(space_yaml(BANK_SPACE))
    bank = bank_of(tmp_path, source="coco_instances", space=str(tmp_path / "labels.yaml"))
    rng = np.random.default_rng(0)
    assert {bank.draw(rng).name for _ in range(30)} == {"sofa", "dog"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["car"]}, "'car' is a known class"),
        ({"classes": ["sofa"], "min_px": 99}, "no instance of sofa of at least 99 px"),
        ({"classes": ["cat"]}, "'cat' is not in label space 'things'"),
    ],
)
def test_a_bank_without_objects_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    from segkit.errors import UserError

    folder = write_bank(tmp_path / "bank", [np.full((9, 9), 6, np.uint8)])
    with pytest.raises(UserError, match=message) as caught:
        bank_of(folder, **changes)
    assert "\n" not in str(caught.value)


def test_an_object_that_the_renderer_cannot_paint_is_refused(tmp_path: Path) -> None:
    folder = write_bank(tmp_path / "bank", two_things())
    with pytest.raises(RecipeError, match="the renderer's ControlNet has no class 'dog'"):
        bank_of(folder, lambda name: name != "dog", classes=["dog"])
    with pytest.raises(InputError, match="no instance of any class"):
        bank_of(folder, lambda name: False)
    (folder / "labels.yaml").unlink()
    with pytest.raises(InputError, match=r"render\.object_bank\.space"):
        bank_of(folder)


def composer_of(bank: ObjectBank | None, **options: Any) -> Any:
    composer = load("composer", {"name": "cut_and_paste", **options}, Execution())
    composer.prepare(SPACE, bank)
    return composer


def test_an_object_lies_on_the_road_within_its_limits_and_the_map_under_it_stays(tmp_path: Path) -> None:
    bank = bank_of(write_bank(tmp_path / "bank", two_things()))
    layout = np.full((64, 96), 10, np.uint8)
    layout[40:] = 0
    composer = composer_of(bank, sentence="{prompt} with a {object}")
    for seed in range(30):
        made = composer.compose("a street", layout, (64, 96), np.random.default_rng(seed))
        assert isinstance(made, Composition) and made.pasted is not None and made.layout is not None
        np.testing.assert_array_equal(made.layout, layout)
        rows, columns = np.nonzero(made.pasted.mask)
        longer = max(np.ptp(rows), np.ptp(columns)) + 1
        assert 12 <= longer <= 32  # 200 and 500 of 1024, at 64 px
        middle = (rows.min() + rows.max() + 1) // 2
        assert middle >= 40 - 1 and made.attributes == (f"object={made.pasted.class_name}",)
        word = {"sofa": "couch", "dog": "dog"}[made.pasted.class_name]
        assert made.prompt == f"a street with a {word}"
        same = composer.compose("a street", layout, (64, 96), np.random.default_rng(seed))
        np.testing.assert_array_equal(same.pasted.mask, made.pasted.mask)


@pytest.mark.parametrize("height", [64, 128, 256])
def test_an_objects_own_size_is_that_of_the_frame_whatever_the_height_of_the_map(tmp_path: Path, height: int) -> None:
    """An object of 10 px in a frame of 80 is an eighth of the height: between the limits it stays so."""
    bank = bank_of(write_bank(tmp_path / "bank", two_things()), classes=["dog"])
    composer = composer_of(bank, frame_px=80, longer_side=[0.05, 0.9], margin=0.1)
    road = np.zeros((height, height), np.uint8)
    made = composer.compose("p", road, road.shape, np.random.default_rng(0))
    rows, columns = np.nonzero(made.pasted.mask)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == height / 8


def test_what_cannot_be_composed_says_why(tmp_path: Path) -> None:
    bank = bank_of(write_bank(tmp_path / "bank", two_things()))
    rng = np.random.default_rng(0)
    sky, road = np.full((64, 96), 10, np.uint8), np.zeros((64, 96), np.uint8)
    edge = np.full((64, 96), 10, np.uint8)
    edge[63] = 0
    for layout, options, reason, is_final in (
        (None, {}, "no_map", True),
        (sky, {}, "no_anchor", True),
        (edge, {"min_margin": 0.05}, "no_anchor", True),
        (road, {"longer_side": [1.5, 1.5]}, "object_too_large", False),
    ):
        refused = composer_of(bank, **options).compose("p", layout, (64, 96), rng)
        assert isinstance(refused, Refusal) and (refused.reason, refused.is_final) == (reason, is_final)
        assert refused.detail and "\n" not in refused.detail


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anchor": ["lane"]}, None),
        ({"anchor": ["ocean"]}, "render.compose.anchor: class 'ocean'"),
        ({"sentence": "{thing}"}, r"has the slots \{prompt\} and \{object\} only"),
        ({"longer_side": [0.5, 0.2]}, "longer_side is"),
        ({"min_margin": 0.3, "margin": 0.1}, "min_margin 0.3 must not be above margin 0.1"),
    ],
)
def test_options_that_do_not_go_are_one_line(tmp_path: Path, options: dict[str, Any], message: str | None) -> None:
    bank = bank_of(write_bank(tmp_path / "bank", two_things()))
    if message is None:
        composer_of(bank, **options)
        return
    with pytest.raises(RecipeError, match=message) as caught:
        composer_of(bank, **options)
    assert "\n" not in str(caught.value)


def test_pasting_without_a_bank_and_a_bank_without_pasting_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nothing to paste; set render\.object_bank"):
        composer_of(None)
    with pytest.raises(RecipeError, match="nothing is pasted by"):
        load("composer", {"name": "as_is"}, Execution()).prepare(
            SPACE, bank_of(write_bank(tmp_path / "bank", two_things()))
        )
