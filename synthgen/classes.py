"""Which classes of its label space a recipe makes samples for, and which a map shows, in words."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from segkit.printable import listed
from synthgen.errors import LabelError
from synthgen.labels import Label, LabelSpace
from synthgen.recipe import Recipe


def wanted_classes(recipe: Recipe, space: LabelSpace) -> tuple[Label, ...]:
    """The classes of `labels.classes`, or every class but the background.

    Raises LabelError for an unknown, repeated or background one.
    """
    wanted = tuple(space.by_name(name) for name in recipe.labels.classes) or space.foreground
    names = [label.name for label in wanted]
    for name in recipe.prompts.quotas:
        if name not in names:
            raise LabelError(
                f"prompts.quotas: {name!r} is no class that samples are made for; those are: {', '.join(names)}"
            )
    for i, label in enumerate(wanted):
        if label.id == space.background:
            raise LabelError(
                f"labels.classes: {label.name!r} is the background of label space {space.name!r}, no prompt asks for it"
            )
        if label in wanted[:i]:
            raise LabelError(f"labels.classes: {label.name!r} is named twice")
    return wanted


def wanted_ids(recipe: Recipe, space: LabelSpace) -> tuple[int, ...]:
    """The ids of `wanted_classes`."""
    return tuple(label.id for label in wanted_classes(recipe, space))


def words_of_shown(shares: np.ndarray, space: LabelSpace, min_share: float, unnamed: Iterable[str]) -> str:
    """The words for the classes that a map shows, the background excepted, as a list in a sentence; "" for none.

    `shares` (classes,), in the order of the space, is what of the map each covers; `min_share` what it must cover at
    least. Of `unnamed`, classes that go without saying, names that the space lacks do nothing.
    """
    left_out = {space.background, *(label.id for name in unnamed if (label := space.find(name)))}
    return listed(
        [
            label.spoken
            for label, share in zip(space.labels, shares, strict=True)
            if share >= min_share and label.id not in left_out
        ]
    )
