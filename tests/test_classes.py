"""The classes that samples are made for: one meaning for prompts, support, refinement and scores."""

from __future__ import annotations

import pytest

from synthgen.classes import wanted_classes, wanted_ids
from synthgen.errors import LabelError
from synthgen.labels import read_label_space
from synthgen.recipe import Recipe

SPACE = read_label_space("objects")


def recipe(*classes: str) -> Recipe:
    return Recipe.model_validate({"name": "x", "labels": {"space": "objects", "classes": list(classes)}})


def test_they_come_in_the_recipes_order_and_all_but_the_background_if_it_names_none() -> None:
    assert [label.name for label in wanted_classes(recipe("bus", "cat"), SPACE)] == ["bus", "cat"]
    assert wanted_classes(recipe(), SPACE) == SPACE.foreground
    assert SPACE.background not in wanted_ids(recipe(), SPACE)
    assert wanted_ids(recipe("bus", "cat"), SPACE) == (SPACE.by_name("bus").id, SPACE.by_name("cat").id)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("dragon",), "'dragon'"),
        (("bus", "cat", "bus"), "'bus' is named twice"),
        (("background",), "is the background"),
    ],
)
def test_an_unknown_a_repeated_and_the_background_class_are_refused(classes: tuple[str, ...], message: str) -> None:
    for function in (wanted_classes, wanted_ids):
        with pytest.raises(LabelError, match=message):
            function(recipe(*classes), SPACE)
