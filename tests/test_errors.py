from __future__ import annotations

from synthgen.errors import in_one_line


def test_what_a_library_says_becomes_one_short_line() -> None:
    assert in_one_line(ValueError("first\n   second\n\tthird")) == "first second third"
    assert in_one_line(TimeoutError()) == "TimeoutError"
    assert in_one_line(OSError("x" * 500), 20) == "x" * 17 + "..."
