"""How much of a prompt a text encoder reads: its context has a number of tokens, and it cuts what is beyond them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from segkit.printable import excerpt
from synthgen.models import TellsUnread, TextEmbedding, TextEncoder

_log = logging.getLogger(__name__)


def read_length(text: str, num_tokens: Callable[[str], int], limit: int) -> int:
    """How many characters of a text are read: the longest beginning of at most `limit` tokens, special ones included.

    A word that is written with blanks around it is read wholly or not at all: half a word names something else.
    """
    if num_tokens(text) <= limit:
        return len(text)
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        fits, too_long = (middle, too_long) if num_tokens(text[:middle]) <= limit else (fits, middle)
    blank = max((n for n in range(fits) if text[n].isspace()), default=0)
    return fits if text[fits].isspace() else blank or fits


def token_counter(tokenizer: Any, limit: int) -> Callable[[str], int]:
    """For `read_length`: tokens of a text, special ones included, by a tokenizer of transformers; counts no further
    than one beyond the limit."""
    return lambda text: len(tokenizer(text, truncation=True, max_length=limit + 1)["input_ids"])


def encode_telling(encoder: TextEncoder, prompt: str) -> TextEmbedding:
    """The embedding of one prompt, with a warning if nothing of it sees the prompt's end."""
    cut = encoder.unread(prompt).tokens if isinstance(encoder, TellsUnread) else ""
    if cut:
        _log.warning("render: %s does not read %s at the end of %s", encoder.id, excerpt(cut, 80), excerpt(prompt, 160))
    return encoder.encode([prompt])[0]
