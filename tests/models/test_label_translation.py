"""Label maps in the ids of another label space, against a loop over pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from segkit.errors import LabelError
from synthgen.labels import IGNORE, OUT_OF_DISTRIBUTION, Label, LabelSpace, read_label_space
from synthgen.models.label_translation import read_translation, translation_table
from synthgen.shipped import shipped_folder

FILES = sorted(shipped_folder("prompts").glob("*/to_*.yaml"))
CITYSCAPES, ADE20K = read_label_space("cityscapes"), read_label_space("ade20k")


def spaces_of(path: Path) -> tuple[LabelSpace, LabelSpace]:
    return read_label_space(path.parent.name), read_label_space(path.stem.removeprefix("to_"))


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}-{path.stem}" for path in FILES])
def test_every_shipped_file_covers_its_label_space_by_names_of_the_other(path: Path) -> None:
    source, target = spaces_of(path)
    raw = yaml.safe_load(path.read_text())
    assert set(raw) == {label.name for label in source.labels}
    assert set(raw.values()) <= {label.name for label in target.labels} | {IGNORE}
    table = translation_table(source, target)
    mask = np.random.default_rng(0).choice([*source.ids, IGNORE, OUT_OF_DISTRIBUTION], (9, 11)).astype(np.uint8)
    for class_id, translated in zip(mask.ravel(), table[mask].ravel(), strict=True):
        if class_id in (IGNORE, OUT_OF_DISTRIBUTION):
            assert translated == class_id
        elif (name := raw[source.by_id(int(class_id)).name]) == IGNORE:
            assert translated == IGNORE
        else:
            assert target.by_id(int(translated)).name == name


def test_the_files_that_people_ask_for_are_there() -> None:
    assert {(path.parent.name, path.stem) for path in FILES} >= {
        ("cityscapes", "to_ade20k"), ("camvid", "to_cityscapes"), ("voc", "to_coco"),
    }  # fmt: skip


def test_ade20k_is_the_scene_parsing_benchmark() -> None:
    """Its 150 classes, counted, and colours that are known from its documentation; two of its classes share one."""
    assert ADE20K.ids == tuple(range(150))
    assert [(ADE20K.by_id(i).name, ADE20K.by_id(i).colour) for i in (0, 2, 12, 20, 149)] == [
        ("wall", (120, 120, 120)),
        ("sky", (6, 230, 230)),
        ("person", (150, 5, 61)),
        ("car", (0, 102, 200)),
        ("flag", (92, 0, 255)),
    ]
    assert len({label.colour for label in ADE20K.labels}) == 149
    with pytest.raises(LabelError, match="'road' and 'skyscraper'"):
        ADE20K.by_colour((140, 140, 140), "here")


@st.composite
def translations(draw: st.DrawFn) -> tuple[LabelSpace, LabelSpace, dict[str, str | int]]:
    """Two label spaces with ids in any order, and a full translation between them."""

    def space(name: str) -> LabelSpace:
        ids = draw(st.lists(st.integers(0, 253), min_size=1, max_size=12, unique=True))
        return LabelSpace(name, tuple(Label(i, f"{name} {n}") for n, i in enumerate(ids)))

    source, target = space("a"), space("b")
    words = st.sampled_from([*(label.name for label in target.labels), IGNORE])
    return source, target, {label.name: draw(words) for label in source.labels}


@given(case=translations())
def test_any_translation_is_what_its_file_says(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[LabelSpace, LabelSpace, dict[str, str | int]]
) -> None:
    source, target, names = case
    path = tmp_path_factory.mktemp("translation") / "a_to_b.yaml"
    path.write_text(yaml.safe_dump(names))
    table = translation_table(source, target, str(path))
    assert table.shape == (256,) and table.dtype == np.uint8
    for class_id in range(256):
        if class_id in source.ids:
            name = names[source.by_id(class_id).name]
            assert table[class_id] == (IGNORE if name == IGNORE else target.by_name(str(name)).id)
        else:
            assert table[class_id] == (OUT_OF_DISTRIBUTION if class_id == OUT_OF_DISTRIBUTION else IGNORE)


def test_the_same_classes_need_no_file_whatever_the_space_is_called() -> None:
    table = translation_table(read_label_space("objects"), read_label_space("voc"))
    assert table[list(range(21))].tolist() == list(range(21))
    assert table[30] == IGNORE


def test_spaces_of_one_name_with_other_ids_are_not_taken_for_the_same() -> None:
    other = LabelSpace("cityscapes", tuple(Label(label.id + 1, label.name) for label in CITYSCAPES.labels))
    with pytest.raises(LabelError, match=r"both have a label space 'cityscapes', but not the same ids") as caught:
        translation_table(other, CITYSCAPES)
    assert "control_translation" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(LabelError, match=r"write a file .*ade20k_to_camvid\.yaml.*control_translation") as caught:
        translation_table(ADE20K, read_label_space("camvid"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("road: road\n", "says nothing of 'grass'; write 255"),
        ("road: street\ngrass: 255\n", "road: 'street' is neither a class of 'b' nor 255"),
        ("road: road\ngrass: 254\n", "grass: 254 is neither"),
        ("road: road\ngrass: '255'\n", "grass: '255' is neither"),
        ("road: road\ngrass: road\ntree: road\n", "'tree' is no class of 'a'"),
        ("- road\n", "must be lines of `class: class`, this is list"),
        ("road: road\nroad: road\n", "occurs twice"),
        ("road: [road]\ngrass: 255\n", "road: .*is neither"),
    ],
)
def test_a_file_that_says_something_else_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "a_to_b.yaml"
    path.write_text(text)
    source = LabelSpace("a", (Label(0, "road"), Label(1, "grass")))
    with pytest.raises(LabelError, match=says) as caught:
        read_translation(path, source, LabelSpace("b", (Label(7, "road"),)))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
