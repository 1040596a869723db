"""Where a text encoder's context ends in a prompt."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pytest

from synthgen.models import TextEmbedding, Unread
from synthgen.models.context import encode_telling, read_length


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


class FirstWord:
    id = "first_word"

    def encode(self, prompts: Sequence[str]) -> list[TextEmbedding]:
        return [TextEmbedding(np.zeros((1, 1), np.float32), np.ones(3, np.float32)) for _ in prompts]

    def unread(self, prompt: str) -> Unread:
        end = prompt.partition(" ")[2]
        return Unread(end, end)


def test_a_renderer_tells_what_it_will_not_see(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert encode_telling(FirstWord(), "bridge").pooled.sum() == 3
        assert not caplog.messages
        encode_telling(FirstWord(), "bridge at dawn")
    assert caplog.messages == ["render: first_word does not read 'at dawn' at the end of 'bridge at dawn'"]
