"""What reaches a terminal: one line, nothing that moves the cursor, nothing endless."""

from __future__ import annotations

import datetime
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from segkit.printable import excerpt, in_one_line, printable


@given(st.text())
def test_all_that_is_printed_is_printable_and_one_line(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable() and len(shown.splitlines()) <= 1
    shown.encode()


@given(st.text(st.characters(exclude_categories=["C", "Z"])))
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_control_characters_show_as_escapes() -> None:
    assert printable("a\x1b[31mred\x07 \u202egnp\u2069 \ud800\n b\tc\u2028d") == (
        r"a\x1b[31mred\x07 \u202egnp\u2069 \ud800  b c d"
    )
    assert printable("x" * 5000, 100) == "x" * 97 + "..."


def test_an_excerpt_never_walks_what_it_cuts_off() -> None:
    bomb: Any = "x" * 9
    for _ in range(40):
        bomb = [bomb] * 9
    began = time.perf_counter()
    for value in (bomb, {"a": bomb}, 10**100_000, "x" * 10_000_000, b"x" * 10_000_000, {1: bomb, 2: (bomb, {3: bomb})}):
        assert len(excerpt(value)) <= 80
    assert time.perf_counter() - began < 1


def test_an_excerpt_of_a_small_value_is_its_repr() -> None:
    for value in ("a", 7, True, None, 1.5, [1, "b"], {"a": None}, datetime.date(2026, 1, 2), b"ab"):
        assert excerpt(value) == repr(value)
    assert excerpt("\x1b[0m") == r"'\x1b[0m'"


def test_what_a_library_says_becomes_one_short_line() -> None:
    assert in_one_line(ValueError("first\n   second\n\tthird")) == "first second third"
    assert in_one_line(TimeoutError()) == "TimeoutError"
    assert in_one_line(OSError("x" * 500), 20) == "x" * 17 + "..."
