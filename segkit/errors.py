"""Every error that a user can cause or mend, as far as both packages know it.

UserError                 shown as one line, exit code 2; anything else is a bug and keeps its traceback
|- DataError              what was given to be read cannot be used
|  |- InputError          an image, a mask, a document or a folder
|  |- LabelError          a class, an id or a palette that is not in the label space
|  |- DatasetError        a finished dataset that is broken
|- ModelError             weights or an architecture that are missing, damaged or of another kind

`synthgen.errors` and `segtrain.errors` grow from the same root, under their own names for it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Names the value, the place and the way out, in one line."""


class DataError(UserError):
    """What was given to be read cannot be used."""


class InputError(DataError):
    """A user's image, mask, document or folder that cannot be used."""


class LabelError(DataError):
    """A class, an id or a palette that is not in the label space."""


class DatasetError(DataError):
    """A finished dataset that is broken."""


class ModelError(UserError):
    """Weights or an architecture that are missing, gated, damaged or of another kind."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'classes'?` for a word that is nearly a known one, else an empty text."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
