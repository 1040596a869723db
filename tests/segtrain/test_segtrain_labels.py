from __future__ import annotations

from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segtrain.errors import DataError
from segtrain.labels import LabelClass, LabelSpace, label_space_of, read_label_space


def space_of(ids: list[int]) -> LabelSpace:
    return LabelSpace("toy", tuple(LabelClass(i, f"c{i}") for i in ids))


@hypothesis.settings(deadline=None)
@given(st.lists(st.integers(0, 253), min_size=1, unique=True), st.randoms(use_true_random=False))
def test_ids_with_gaps_survive_the_way_to_channels_and_back(ids: list[int], random) -> None:
    space = space_of(ids)
    mask = np.array([[random.choice([*ids, 254, 255]) for _ in range(6)] for _ in range(5)], dtype=np.uint8)
    channels = space.to_channels(mask, "here")
    trained = channels != 255
    assert np.array_equal(trained, mask < 254)
    assert channels[trained].max(initial=0) < len(ids)
    assert np.array_equal(space.id_of_channel[channels[trained]], mask[trained])


def test_an_id_outside_the_label_space_is_named_with_its_place() -> None:
    with pytest.raises(DataError, match=r"^a\.png: id 4, 9 is not in label space 'toy', which has 0, 5 "):
        space_of([0, 5]).to_channels(np.array([[0, 9, 4, 255]], dtype=np.uint8), "a.png")


def test_a_smaller_label_space_fits_into_a_larger_one_and_not_the_other_way() -> None:
    space_of([3, 7]).require_within(space_of([7, 0, 3]), "here")
    with pytest.raises(DataError, match="it has no id 0"):
        space_of([7, 0, 3]).require_within(space_of([3, 7]), "here")
    renamed = LabelSpace("other", (LabelClass(3, "car"),))
    with pytest.raises(DataError, match="there id 3 is 'c3'"):
        renamed.require_within(space_of([3]), "here")


def test_json_round_trip() -> None:
    space = LabelSpace("toy", (LabelClass(2, "a", (1, 2, 3)), LabelClass(0, "b")), background=0)
    assert label_space_of(space.to_json(), "here") == space


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1, 2]", "mapping"),
        ("name: x", "labels"),
        ("{name: x, labels: [{id: '1', name: a}]}", "not an id"),
        ("{name: x, labels: [{id: 254, name: a}]}", "0..253"),
        ("{name: x, labels: [{id: 1, name: a}, {id: 1, name: b}]}", "unique"),
        ("{name: x, labels: [{id: 1, name: a, colour: [1, 2]}]}", "colour"),
        ("{name: x, background: 4, labels: [{id: 1, name: a}]}", "background 4"),
        ("{name: x, labels: []}", "no classes"),
        ("{name: [", "YAML"),
    ],
)
def test_a_bad_labels_yaml_gives_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "labels.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=says) as caught:
        read_label_space(path)
    assert "\n" not in str(caught.value)
