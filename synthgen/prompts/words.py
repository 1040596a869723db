"""English of prompts: articles, plurals, and which class a sentence names."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from segkit.labels import Label, LabelSpace

_AN = re.compile(r"(?:[aeiou]|hour|honest|heir)", re.IGNORECASE)
_NOT_AN = re.compile(r"(?:one\b|once|uni(?:[cfqtv]|on)|use|usual|utili|ubi|eu)", re.IGNORECASE)
_IRREGULAR = {
    "person": "people",
    "man": "men",
    "woman": "women",
    "child": "children",
    "bus": "buses",
    "sheep": "sheep",
    "aircraft": "aircraft",
}


def article(word: str) -> str:
    """`an` before a vowel sound, else `a`: an hour, a one-way street, an orange car."""
    return "an" if _AN.match(word) and not _NOT_AN.match(word) else "a"


def plural(words: str) -> str:
    """Plural of a noun or of the last word of a compound: dining tables, people, buses, sheep."""
    *before, last = words.split(" ")
    if last in _IRREGULAR:
        changed = _IRREGULAR[last]
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        changed = last + "es"
    elif last.endswith("y") and last[-2:-1] not in ("a", "e", "i", "o", "u", ""):
        changed = last[:-1] + "ies"
    else:
        changed = last + "s"
    return " ".join((*before, changed))


def mentions(prompt: str, label: Label) -> bool:
    """Whether the class name or a synonym stands in the prompt as a whole word, singular or plural, upper or lower
    case.

    A part of a hyphenated word does not count: a "car-free street" names no car.
    """
    return _pattern(label).search(prompt) is not None


def first_mentioned(prompt: str, space: LabelSpace) -> Label | None:
    """The foreground class that the prompt names first; of two that start at the same place, the longer wording.

    None if none is named.
    """
    best: tuple[int, int] | None = None
    found = None
    for label in space.foreground:
        match = _pattern(label).search(prompt)
        if match and (best is None or (match.start(), -match.end()) < best):
            best, found = (match.start(), -match.end()), label
    return found


@functools.lru_cache(maxsize=1024)
def _pattern(label: Label) -> re.Pattern[str]:
    return _whole_words((label.name, *label.synonyms))


def _whole_words(words: Sequence[str]) -> re.Pattern[str]:
    # Longer wordings first, so that the match is the longest one at its place.
    forms = sorted(
        {form.casefold() for word in words for form in (word, plural(word))}, key=lambda form: (-len(form), form)
    )
    alternatives = "|".join(r"[\s-]+".join(map(re.escape, re.split(r"[\s-]+", form))) for form in forms)
    return re.compile(rf"(?<![\w-])(?:{alternatives})(?![\w-])", re.IGNORECASE)
