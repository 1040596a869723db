"""Every error that a user can cause or mend.

SegtrainError       shown as one line, exit code 2; anything else is a bug and keeps its traceback
|- ConfigError      a setting out of range, misspelt, or that does not go with another
|- DataError        a dataset, an image or a mask that cannot be used
|- ModelError       an architecture that does not exist, a model folder that cannot be loaded
|- RunError         an output folder that belongs to another training, or that cannot be written to
"""

from __future__ import annotations


class SegtrainError(Exception):
    """Names the value, the place and the way out, in one line."""


class ConfigError(SegtrainError):
    """A setting out of range, misspelt, or that does not go with another."""


class DataError(SegtrainError):
    """A dataset, an image or a mask that cannot be used."""


class ModelError(SegtrainError):
    """An architecture that does not exist, a model folder that cannot be loaded."""


class RunError(SegtrainError):
    """An output folder that belongs to another training, or that cannot be written to."""
