"""One spelling for words that are the same to a reader: which class a name in somebody's file, or a word in a prompt,
stands for is decided on it."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

_ZERO_WIDTH = "\u00ad\u034f\u061c\u200c\u200d\u200e\u200f\u2060\ufeff"  # soft hyphen, joiners, direction marks
_CHANGED = (
    dict.fromkeys(map(ord, _ZERO_WIDTH))
    | dict.fromkeys(range(0xFE00, 0xFE10))  # variation selectors
    | {ord("_"): " ", 0x200B: " "}  # a zero width space parts words
    | {0x2010: "-", 0x2011: "-", 0x2018: "'", 0x2019: "'", 0x02BC: "'"}  # two more hyphens, typographic apostrophes
)
# Thai, Lao, Burmese, Khmer, Han, kana: a word of theirs has no border that can be seen
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_HANGUL = "\u1100-\u11ff\uac00-\ud7ff"  # its words begin at a blank, and particles stick to their end
_LEFT, _RIGHT = rf"(?<![^\W{_UNSPACED}])(?<!-)", rf"(?![^\W{_UNSPACED}]|-)"


def folded(text: str) -> str:
    """The text without what spelling alone makes different: capitals (with ß as ss), composed and decomposed accents,
    full and half width (Unicode's NFKC), characters of no width, typographic apostrophes; an underscore is a blank."""
    plain = unicodedata.normalize("NFKC", text).translate(_CHANGED).casefold()
    return unicodedata.normalize("NFKC", plain)


def word_parts(name: str) -> tuple[str, ...]:
    """The parts of a compound, folded: "Traffic-Light", "traffic_light" and "traffic light" have the same ones."""
    return tuple(part for part in re.split(r"[\s-]+", folded(name)) if part)


@functools.lru_cache(maxsize=4096)
def same_name(name: str) -> str:
    """What two names have in common if they differ in spelling alone: the parts, with a blank between them; of a name
    that has none ("-") itself."""
    return " ".join(word_parts(name)) or folded(name)


def find_wordings(text: str, wordings: frozenset[str]) -> Iterator[tuple[int, int]]:
    """(start, stop) in `text` of every place where one of the wordings stands as a whole word, in any spelling; the
    longest at its place.

    A part of a hyphenated word does not count. Chinese, Japanese, Thai, Lao, Burmese and Khmer are written without
    blanks, so a wording in one of them is found wherever its characters stand; a Korean one wherever a word begins with
    it.
    """
    plain, places = _folded_with_places(text)
    for match in _pattern(wordings).finditer(plain):
        # a mark on the last letter makes it another letter
        if not unicodedata.category(plain[match.end() : match.end() + 1] or " ").startswith("M"):
            yield places[match.start()], places[match.end()]


@functools.lru_cache(maxsize=4096)
def _pattern(wordings: frozenset[str]) -> re.Pattern[str]:
    forms = {word_parts(word) or (folded(word),) for word in wordings if folded(word).strip()}
    borders: dict[tuple[str, str], list[str]] = {}  # what stands left and right of it -> forms, the longest first
    for parts in sorted(forms, key=lambda parts: (-sum(map(len, parts)), parts)):
        left = "" if re.match(f"[{_UNSPACED}]", parts[0]) else _LEFT
        right = "" if re.search(f"[{_UNSPACED}{_HANGUL}]$", parts[-1]) else _RIGHT
        borders.setdefault((left, right), []).append(r"[\s-]+".join(map(re.escape, parts)))
    alternatives = [f"{left}(?:{'|'.join(each)}){right}" for (left, right), each in borders.items()]
    return re.compile("|".join(alternatives) or "(?!)")


@functools.lru_cache(maxsize=64)  # one sentence is asked for every class
def _folded_with_places(text: str) -> tuple[str, tuple[int, ...]]:
    """`folded`, and for each of its characters, and for its end, where in `text` it comes from."""
    if text.isascii():  # nothing is composed, and every character stays one
        return folded(text), tuple(range(len(text) + 1))
    starts = [n for n, character in enumerate(text) if n == 0 or not _joins(character)]
    pieces: list[str] = []
    places: list[int] = []
    for start, stop in pairwise([*starts, len(text)]):
        pieces.append(folded(text[start:stop]))
        places += [start] * len(pieces[-1])
    return "".join(pieces), (*places, len(text))


def _joins(character: str) -> bool:
    """Whether Unicode may compose it with the one before: marks, Korean vowels and finals, half width letters."""
    return (
        unicodedata.category(character).startswith("M")
        or "\u1160" <= character <= "\u11ff"
        or "\uff9e" <= character <= "\uffdc"
    )
