"""What a person sees: no control characters, no endless text.

Applied where text leaves the program (error lines, tables, echoes), so that no name in somebody else's file can move
the cursor, recolour the terminal or fill it. rich would read `[red]` in a name as markup: hand it `Text(printable(x))`,
or print with `markup=False`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any

MAX_LINE = 2000
_NEWLINES = ("\r\n", "\n", "\r", "\t", "\v", "\f", "\x85", "\u2028", "\u2029")


def printable(value: object, max_chars: int = MAX_LINE) -> str:
    """`str(value)` as one line of at most `max_chars` characters: line breaks and tabs become blanks, any other
    character that does not print (escape sequences, bidirectional controls, lone surrogates) its Python escape."""
    text = str(value)
    if len(text) > max_chars:
        text = f"{text[: max_chars - 3]}..."
    for newline in _NEWLINES:
        text = text.replace(newline, " ")
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def excerpt(value: object, max_chars: int = 80) -> str:
    """`repr(value)` for an error line, cut to `max_chars`: nested containers are cut before they are walked, so that
    no value from a file makes it slow."""
    text = printable(_SHORT.repr(value), 10 * max_chars)
    return text if len(text) <= max_chars else f"{text[: max_chars - 3]}..."


def in_one_line(error: BaseException, max_chars: int = 300) -> str:
    """What a library says, in one line of at most `max_chars` characters; the error's type if it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return printable(text if len(text) <= max_chars else f"{text[: max_chars - 3]}...", 10 * max_chars)


class _Short(reprlib.Repr):
    """Texts up to 80 characters, 4 items a container, 3 levels."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict, self.maxset = 3, 4, 4, 4, 4
        self.maxstring = self.maxother = 80

    def repr_int(self, x: int, level: int) -> str:
        # digits of a huge number cost quadratic time, and Python refuses beyond 4,300 of them
        return repr(x) if x.bit_length() <= 256 else f"a number of {x.bit_length()} bits"

    def repr_bool(self, x: bool, level: int) -> str:
        return repr(x)

    def repr_bytes(self, x: bytes, level: int) -> str:
        return repr(x) if len(x) <= 40 else f"{x[:40]!r}..."


_SHORT: Any = _Short()


def _escape(character: str) -> str:
    return " " if character.isspace() else character.encode("unicode_escape", "backslashreplace").decode("ascii")


def duration(seconds: float) -> str:
    """In the largest fitting unit: "40 s", "12 min", "3.5 h", "2.1 days"."""
    for size, unit in ((86400, "days"), (3600, "h")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them: "a", "a and b", "a, b and c"; empty for none."""
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)


def examples(*lines: str) -> str:
    """What stands at the end of a command's help. Square brackets are no markup there."""
    return "\n".join(("Examples:", *(f"  {line}".replace("[", r"\[") for line in lines)))
