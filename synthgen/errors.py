"""Every error that a user can cause or mend.

SynthgenError                shown as one line, exit code 2; anything else is a bug and keeps its traceback
|- InputError, LabelError, DatasetError, ModelError     of both packages: see segkit.errors
|- RecipeError               a recipe that cannot be read, a misspelt key, a value out of range
|- RunError                  a run folder that belongs to another recipe, or that holds foreign files
|- StorageError              a folder that cannot be written to, or a full disk
"""

from __future__ import annotations

from segkit.errors import DatasetError, InputError, LabelError, ModelError, did_you_mean
from segkit.errors import UserError as SynthgenError
from segkit.printable import in_one_line

__all__ = [
    "DatasetError",
    "InputError",
    "LabelError",
    "ModelError",
    "RecipeError",
    "RunError",
    "StorageError",
    "SynthgenError",
    "did_you_mean",
    "in_one_line",
]


class RecipeError(SynthgenError):
    """A recipe that cannot be read, a misspelt key, a value out of range."""


class RunError(SynthgenError):
    """A run folder that belongs to another recipe, or that holds foreign files."""


class StorageError(SynthgenError):
    """A folder that cannot be written to, or a full disk."""
