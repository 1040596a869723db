"""Label spaces: what may be in one, masks checked against one, files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from synthgen.errors import LabelError
from synthgen.labels import IGNORE, OUT_OF_DISTRIBUTION, Label, LabelSpace, read_label_space
from synthgen.shipped import shipped_folder

SPACE = LabelSpace(
    "shapes",
    (Label(0, "background", (0, 0, 0)), Label(1, "disc", (9, 8, 7), ("coin", "plate")), Label(7, "bar", (1, 2, 3))),
    0,
)


def test_foreground_is_all_but_the_background() -> None:
    assert [label.name for label in SPACE.foreground] == ["disc", "bar"]
    assert len(LabelSpace("streets", SPACE.labels).foreground) == 3


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


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "name: x",
        "labels: [{id: 1, name: a, colour: [1, 2, 3]}]",
        "name: x\nlabels: 3",
        "name: x\nlabels: [3]",
        "name: x\nlabels: [{id: 1, name: a}]",
        "name: x\nlabels: [{id: one, name: a, colour: [1, 2, 3]}]",
        "name: x\nlabels: [{id: 1.5, name: a, colour: [1, 2, 3]}]",
        "name: x\nlabels: [{id: true, name: a, colour: [1, 2, 3]}]",
        "name: x\nlabels: [{id: 1, name: a, colour: [1, 2]}]",
        "name: x\nlabels: [{id: 1, name: a, colour: [1, 2, 256]}]",
        "name: x\nlabels: [{id: 1, name: a, colour: red}]",
        "name: x\nlabels: [{id: 1, name: a, colour: [1, 2, 3], synonyms: coin}]",  # not c, o, i, n
        "name: x\nbackground: a\nlabels: [{id: 1, name: a, colour: [1, 2, 3]}]",
        "name: [x\nlabels: {",
        "\x00",
        "\xff",
    ],
)
def test_file_that_is_no_label_space_is_one_clear_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.yaml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(LabelError, match=r"labels\.yaml: not a label space \(.+\); needs name and labels") as caught:
        read_label_space(str(path))
    assert "\n" not in str(caught.value)


def test_missing_label_space_names_the_shipped_ones(tmp_path: Path) -> None:
    for name in ("objcts", str(tmp_path / "none.yaml")):
        with pytest.raises(LabelError, match=r"label space '.*': no file .*; shipped ones: .*objects"):
            read_label_space(name)


def test_every_shipped_label_space_can_be_read() -> None:
    names = [path.parent.name for path in shipped_folder("prompts").glob("*/labels.yaml")]
    assert {"objects", "cityscapes", "voc"} <= set(names)
    for name in names:
        assert read_label_space(name).foreground
