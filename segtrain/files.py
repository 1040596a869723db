"""Files that exist whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from segtrain.errors import RunError


def write_whole(path: Path, data: bytes) -> None:
    """Write under a temporary name, flush to disk, rename. A kill leaves the old file or the new one. Raises RunError."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from error
