"""Every error that a user can cause or mend.

SynthgenError                shown as one line, exit code 2; anything else is a bug and keeps its traceback
|- RecipeError               a recipe that cannot be read, a misspelt key, a value out of range
|- LabelError                a class, an id or a palette that is not in the label space
|- InputError                a user's image, mask or folder that cannot be used
|- ModelError                weights that are missing, gated or of another kind
|- RunError                  a run folder that belongs to another recipe, or that holds foreign files
|- StorageError              a folder that cannot be written to, or a full disk
|- DatasetError              a finished dataset that is broken
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SynthgenError(Exception):
    """Names the value, the place and the way out, in one line."""


class RecipeError(SynthgenError):
    """A recipe that cannot be read, a misspelt key, a value out of range."""


class LabelError(SynthgenError):
    """A class, an id or a palette that is not in the label space."""


class InputError(SynthgenError):
    """A user's image, mask or folder that cannot be used."""


class ModelError(SynthgenError):
    """Weights that are missing, gated or of another kind."""


class RunError(SynthgenError):
    """A run folder that belongs to another recipe, or that holds foreign files."""


class StorageError(SynthgenError):
    """A folder that cannot be written to, or a full disk."""


class DatasetError(SynthgenError):
    """A finished dataset that is broken."""


def in_one_line(error: BaseException, most: int = 300) -> str:
    """What a library says, in one line of at most `most` characters; the error's type if it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= most else text[: most - 3] + "..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'classes'?` for a word that is nearly a known one, else an empty text."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
