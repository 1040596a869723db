"""Label spaces: what may be in one, masks checked against one, files that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from segkit.errors import LabelError
from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION, Label, LabelSpace, label_space_of, read_label_space

SPACE = LabelSpace(
    "shapes",
    (Label(0, "background", (0, 0, 0)), Label(1, "disc", (9, 8, 7), ("coin", "plate")), Label(7, "bar", (1, 2, 3))),
    0,
)


def test_foreground_is_all_but_the_background() -> None:
    assert [label.name for label in SPACE.foreground] == ["disc", "bar"]
    assert len(LabelSpace("streets", SPACE.labels).foreground) == 3


def test_a_name_in_another_spelling_is_found_if_it_is_one_class_alone() -> None:
    letters = LabelSpace("letters", (Label(0, "A"), Label(1, "a"), Label(2, "Traffic_light", (0, 0, 0), ("signal",))))
    assert letters.by_name("traffic-LIGHT") == letters.by_name("Signal") == letters.by_id(2)
    assert (letters.by_name("A").id, letters.by_name("a").id) == (0, 1)
    with pytest.raises(LabelError, match="class 'ａ' is not in label space"):
        letters.by_name("ａ")
    LabelSpace("other", (Label(2, "traffic light"),)).require_within(letters, "here")


def test_classes_are_found_by_name_synonym_and_id() -> None:
    assert SPACE.by_name("disc") == SPACE.by_name("plate") == SPACE.by_id(1)
    assert SPACE.by_id(1).spoken == "coin"
    assert SPACE.by_id(7).spoken == "bar"
    with pytest.raises(LabelError, match="class 'cow' is not in label space 'shapes'; it has: background, disc, bar"):
        SPACE.by_name("cow")
    with pytest.raises(LabelError, match="id 2 is not in label space 'shapes'; it has: 0, 1, 7"):
        SPACE.by_id(2)


@pytest.mark.parametrize(
    ("labels", "background", "said"),
    [
        ([(1, "a"), (1, "b")], None, "ids and names must be unique"),
        ([(1, "a"), (2, "a")], None, "ids and names must be unique"),
        ([(254, "a")], None, r"ids must be in 0\.\.253"),
        ([(-1, "a")], None, r"ids must be in 0\.\.253"),
        ([(1, "caf\u00e9"), (2, "cafe\u0301")], None, "ids and names must be unique"),
        ([(1, "a"), (2, " a ")], None, "ids and names must be unique"),
        ([(1, "  ")], None, "is empty or has control characters"),
        ([(1, "a\nb")], None, "is empty or has control characters"),
        ([(1, "a\x1b[31m")], None, "is empty or has control characters"),
        ([(1, "a\u2028b")], None, "is empty or has control characters"),
        ([], None, "has no labels"),
        ([(1, "a")], 0, "background 0 is not the id of a label; ids are 1"),
    ],
)
def test_impossible_label_spaces(labels: list[tuple[int, str]], background: int | None, said: str) -> None:
    with pytest.raises(LabelError, match=said):
        LabelSpace("x", tuple(Label(i, name, (0, 0, 0)) for i, name in labels), background)


@given(
    arrays.arrays(
        np.uint8,
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=4),
        elements=st.sampled_from([0, 1, 2, 7, 253, 254, 255]),
    )
)
def test_check_accepts_exactly_the_known_ids(mask: np.ndarray) -> None:
    strange = sorted({int(v) for v in mask.ravel()} - {0, 1, 7, OUT_OF_DISTRIBUTION, IGNORE})
    if not strange:
        SPACE.check(mask, "here")
        return
    with pytest.raises(LabelError) as caught:
        SPACE.check(mask, "here")
    assert (
        str(caught.value)
        == f"here: ids {', '.join(map(str, strange))} are not in label space 'shapes' (ids 0..7, 255 = ignore)"
    )


def test_paint() -> None:
    painted = SPACE.paint(np.array([[0, 1], [254, 255]], np.uint8))
    assert painted.tolist() == [[[0, 0, 0], [9, 8, 7]], [[255, 0, 255], [0, 0, 0]]]


@given(st.lists(st.integers(0, 253), min_size=1, unique=True), st.randoms(use_true_random=False))
def test_ids_with_gaps_survive_the_way_to_channels_and_back(ids: list[int], random: Any) -> None:
    space = LabelSpace("toy", tuple(Label(i, f"c{i}") for i in ids))
    mask = np.array([[random.choice([*ids, 254, 255]) for _ in range(6)] for _ in range(5)], dtype=np.uint8)
    channels = space.to_channels(mask, "here")
    of_class = mask < 254
    assert (channels[~of_class] == mask[~of_class]).all(), "254 and 255 stay apart"
    assert channels[of_class].max(initial=0) < len(ids)
    assert np.array_equal(space.id_of_channel[channels[of_class]], mask[of_class])


def test_an_id_outside_the_label_space_is_named_with_its_place() -> None:
    with pytest.raises(LabelError, match=r"^a\.png: ids 4, 9 are not in label space 'shapes' "):
        SPACE.to_channels(np.array([[0, 9, 4, 255]], dtype=np.uint8), "a.png")


def test_a_smaller_label_space_fits_into_a_larger_one_and_not_the_other_way() -> None:
    smaller = LabelSpace("small", (Label(7, "bar"),))
    smaller.require_within(SPACE, "here")
    with pytest.raises(LabelError, match=r"here: class 'background' .*: it has no id 0"):
        SPACE.require_within(smaller, "here")
    with pytest.raises(LabelError, match="there id 7 is 'bar'"):
        LabelSpace("other", (Label(7, "car"),)).require_within(SPACE, "here")


def test_json_round_trip() -> None:
    assert label_space_of(SPACE.to_json(), "here") == SPACE


def test_colours_of_classes_come_before_those_of_no_class() -> None:
    assert [SPACE.by_colour(colour, "m") for colour in ((0, 0, 0), (9, 8, 7), (255, 0, 255), (224, 224, 192))] == [
        0,
        1,
        254,
        255,
    ]
    assert LabelSpace("x", SPACE.labels[1:]).by_colour((0, 0, 0), "m") == 255
    assert SPACE.by_colour((1, 1, 1), "m") is None
    twins = LabelSpace("twins", (Label(0, "a", (5, 5, 5)), Label(1, "b", (5, 5, 5)), Label(2, "c", (6, 5, 5))))
    assert twins.by_colour((6, 5, 5), "m") == 2, "equal colours are no harm where they do not occur"
    with pytest.raises(LabelError, match=r"m: colour \[5, 5, 5\] is that of 'a' and 'b' in label space 'twins'"):
        twins.by_colour((5, 5, 5), "m")


def test_names_are_kept_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "labels.yaml"
    path.write_text("{name: x, labels: [{id: 0, name: ' tv monitor '}, {id: 3, name: 'cafe\u0301', synonyms: ['no']}]}")
    space = read_label_space(path)
    assert [(label.id, label.name, label.colour, label.synonyms) for label in space.labels] == [
        (0, "tv monitor", (0, 0, 0), ()),
        (3, "caf\u00e9", (0, 0, 0), ("no",)),
    ]
    assert space.by_name("cafe\u0301") == space.by_name("caf\u00e9") == space.by_name("no")


@pytest.mark.parametrize("word", ["no", "on", "~", "null", "1.5", "7", "true"])
@pytest.mark.parametrize("key", ["name", "synonyms"])
def test_words_that_yaml_reads_as_something_else_ask_for_quotes(tmp_path: Path, word: str, key: str) -> None:
    path = tmp_path / "labels.yaml"
    value = f"[{word}]" if key == "synonyms" else word
    rest = "" if key == "name" else "name: a, "
    path.write_text(f"name: x\nlabels: [{{id: 1, {rest}{key}: {value}}}]")
    with pytest.raises(LabelError, match="is no text: write it in quotes"):
        read_label_space(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "name: x",
        "labels: [{id: 1, name: a, colour: [1, 2, 3]}]",
        "name: x\nlabels: 3",
        "name: x\nlabels: [3]",
        "name: x\nlabels: [{id: one, name: a, colour: [1, 2, 3]}]",
        "name: x\nlabels: [{id: 1.5, name: a, colour: [1, 2, 3]}]",
        "name: x\nlabels: [{id: true, name: a, colour: [1, 2, 3]}]",
        "name: x\nlabels: [{id: 1, name: a, colour: [1, 2]}]",
        "name: x\nlabels: [{id: 1, name: a, colour: [1, 2, 256]}]",
        "name: x\nlabels: [{id: 1, name: a, colour: red}]",
        "name: x\nlabels: [{id: 1, name: a, colour: [1, 2, 3], synonyms: coin}]",  # not c, o, i, n
        "name: x\nbackground: a\nlabels: [{id: 1, name: a, colour: [1, 2, 3]}]",
        "name: x\nlabels: [{id: 010, name: a}]",
        "name: x\nlabels: [{id: 1, id: 2, name: a}]",
        "name: x\nname: y\nlabels: [{id: 1, name: a}]",
        "name: 2024\nlabels: [{id: 1, name: a}]",
        "name: x\nlabels: [{id: 1, name: &a b}, {id: 2, name: *a}]",
        "name: [x\nlabels: {",
        "\x00",
        "\xff",
    ],
)
def test_file_that_is_no_label_space_is_one_clear_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.yaml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(LabelError, match=r"labels\.yaml: .+") as caught:
        read_label_space(path)
    assert "\n" not in str(caught.value)
