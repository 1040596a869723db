"""Which class a sentence names."""

from __future__ import annotations

import functools

from segkit.labels import Label, LabelSpace
from segkit.spelling import find_wordings
from synthgen.english import article, plural, wordings

__all__ = ["article", "first_mentioned", "mentions", "plural"]


def mentions(prompt: str, label: Label) -> bool:
    """Whether the class name or a synonym stands in the prompt as a whole word, singular or plural, in any spelling
    (`segkit.spelling`).

    A part of a hyphenated word does not count: a "car-free street" names no car.
    """
    return _first(prompt, label) is not None


def first_mentioned(prompt: str, space: LabelSpace) -> Label | None:
    """The foreground class that the prompt names first; of two that start at the same place, the longer wording.

    None if none is named.
    """
    found = [(at, label) for label in space.foreground if (at := _first(prompt, label)) is not None]
    return min(found, key=lambda one: (one[0][0], -one[0][1]))[1] if found else None


def _first(prompt: str, label: Label) -> tuple[int, int] | None:
    return next(find_wordings(prompt, _wordings_of(label)), None)


@functools.lru_cache(maxsize=1024)
def _wordings_of(label: Label) -> frozenset[str]:
    return frozenset().union(*map(wordings, (label.name, *label.synonyms)))
