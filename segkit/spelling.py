"""One spelling for words that are the same to a reader: which class a name in somebody's file, or a word in a prompt,
stands for is decided on it."""

from __future__ import annotations

import re
import unicodedata

_ZERO_WIDTH = "\u00ad\u034f\u200c\u200d\u200e\u200f\u2060\ufeff"  # soft hyphen, joiners, direction marks
_CHANGED = (
    dict.fromkeys(map(ord, _ZERO_WIDTH))
    | dict.fromkeys(range(0xFE00, 0xFE10))  # variation selectors
    | {ord("_"): " ", 0x200B: " ", 0x2010: "-", 0x2011: "-"}  # a zero width space parts words; two more hyphens
)


def folded(text: str) -> str:
    """The text without what spelling alone makes different: capitals (with ß as ss), composed and decomposed accents,
    full and half width (Unicode's NFKC), characters of no width; an underscore is a blank."""
    plain = unicodedata.normalize("NFKC", text).translate(_CHANGED).casefold()
    return unicodedata.normalize("NFKC", plain)


def word_parts(name: str) -> tuple[str, ...]:
    """The parts of a compound, folded: "Traffic-Light", "traffic_light" and "traffic light" have the same ones."""
    return tuple(part for part in re.split(r"[\s-]+", folded(name)) if part)
