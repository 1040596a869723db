"""Files that exist whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from segtrain.errors import RunError


def write_whole(path: Path, data: bytes) -> None:
    """Write under a temporary name, flush to disk, rename. A kill leaves the old file or the new one.

    Two writers at once do not disturb each other: the last one wins. Raises RunError.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RunError(f"{path}: cannot be written: {error.strerror}") from error


def make_folder(folder: Path) -> None:
    """With what is above it, if it is not there. Raises RunError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be made: {error.strerror}") from error


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of this file have left. Nobody else may be writing it."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)
