"""`synthgen.json`: what is written is read back, and what is not ours is one line."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segkit.errors import UserError
from synthgen.labels import read_label_space
from synthgen.models.control import Control, Kind
from synthgen.models.model_facts import (
    DEFAULT_T5_TOKENS,
    FACTS,
    ModelFacts,
    num_t5_tokens,
    parse_model_facts,
    read_model_facts,
    write_model_facts,
)
from synthgen.models.weights import resolve

CAMVID = read_label_space("camvid")
CONTROLS = [
    None,
    *(Control(kind, CAMVID) for kind in typing.get_args(Kind)),
    Control("depth"),
    Control("edges", scale="half_levels"),
]


@given(
    length=st.none() | st.integers(0, 512),
    control=st.sampled_from(CONTROLS),
    base=st.sampled_from(["", "somebody/base"]),
    swap=st.booleans(),
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, length: int | None, control: Control | None, base: str, swap: bool
) -> None:
    folder = tmp_path_factory.mktemp("facts")
    facts = ModelFacts(length, control, base, "a" * 40 if base else "", swap)
    write_model_facts(facts, folder)
    assert read_model_facts(folder) == facts


def test_the_keys_of_a_trained_controlnet(tmp_path: Path) -> None:
    """The form that other programs see."""
    write_model_facts(ModelFacts(77, Control("palette", CAMVID), "somebody/base", "a" * 40, True), tmp_path)
    assert json.loads((tmp_path / FACTS).read_text()) == {
        "control": "palette",
        "label_space": CAMVID.to_json(),
        "base": {"model": "somebody/base", "revision": "a" * 40},
        "max_sequence_length": 77,
        "swap": True,
    }


def test_a_folder_without_the_file_says_nothing(tmp_path: Path) -> None:
    assert read_model_facts(tmp_path) == read_model_facts("some-body/on-the-hub") == ModelFacts()
    assert num_t5_tokens(tmp_path, -1) == DEFAULT_T5_TOKENS
    streets = resolve("mini/streets")
    assert (num_t5_tokens(streets, -1), num_t5_tokens(streets, 5)) == (0, 5)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ([], "must be an object of facts, this is list"),
        ({"control": "sketch"}, "control is 'sketch', must be one of palette, onehot, edges, depth, image"),
        ({"control": ["palette"]}, "control is .*, must be a text"),
        ({"control": "edges", "scale": "double"}, "scale is 'double', must be one of signed, half_levels"),
        ({"control": "palette"}, "control is palette, so it must have the key label_space"),
        ({"control": "onehot", "label_space": {"name": "x"}}, "label_space: not a label space .*'labels' is missing"),
        ({"max_sequence_length": True}, "max_sequence_length is True, must be a whole number"),
        ({"max_sequence_length": 5000}, "max_sequence_length is 5000, must be in 0..512"),
        ({"base": "somebody/base"}, "base is 'somebody/base', must be an object"),
        ({"base": {"model": 1}}, "model is 1, must be a text"),
        ({"swap": "yes"}, "swap is 'yes', must be true or false"),
    ],
)
def test_facts_of_another_form_are_one_line(tmp_path: Path, facts: Any, says: str) -> None:
    path = tmp_path / FACTS
    path.write_text(json.dumps(facts))
    with pytest.raises(UserError, match=says) as caught:
        parse_model_facts(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / FACTS
    for damaged in ('{"control": ', '{"swap": true, "swap": false}', "[" * 500):
        path.write_text(damaged)
        with pytest.raises(UserError, match=FACTS) as caught:
            parse_model_facts(path)
        assert "\n" not in str(caught.value)
