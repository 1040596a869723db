"""Where a text encoder's context ends in a prompt."""

from __future__ import annotations

import pytest

from synthgen.models.context import read_length


@pytest.mark.parametrize(
    ("text", "limit", "read"),
    [
        ("one two three", 5, "one two three"),
        ("one two three", 4, "one two"),
        ("one two three ", 4, "one two"),
        ("one two  three", 3, "one"),
        ("三辆卡车", 4, "三辆"),
        ("", 2, ""),
    ],
)
def test_whole_words_are_read_up_to_the_limit(text: str, limit: int, read: str) -> None:
    def num_tokens(part: str) -> int:
        return 2 + sum(len(word) if ord(word[0]) > 255 else 1 for word in part.split())

    assert text[: read_length(text, num_tokens, limit)].strip() == read
