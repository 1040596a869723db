"""Every error that a user can cause or mend.

SegtrainError       shown as one line, exit code 2; anything else is a bug and keeps its traceback
|- DataError        a dataset, an image or a mask that cannot be used: see segkit.errors
|- ModelError       an architecture that does not exist, a model folder that cannot be loaded
|- ConfigError      a setting out of range, misspelt, or that does not go with another
|- RunError         an output folder that belongs to another training, or that cannot be written to
"""

from __future__ import annotations

from segkit.errors import DataError, ModelError
from segkit.errors import UserError as SegtrainError

__all__ = ["ConfigError", "DataError", "ModelError", "RunError", "SegtrainError"]


class ConfigError(SegtrainError):
    """A setting out of range, misspelt, or that does not go with another."""


class RunError(SegtrainError):
    """An output folder that belongs to another training, or that cannot be written to."""
