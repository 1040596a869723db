"""Uncertainties of pixels as grey pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from segtrain.errors import RunError

_TINY = 1e-30


def write_map(path: Path, uncertainty: np.ndarray, black: float, white: float) -> None:
    """8-bit grey, one scale for all pictures. Raises RunError, also if two pictures have one name."""
    share = (uncertainty - black) / max(white - black, _TINY)
    try:
        with path.open("xb") as file:
            Image.fromarray(np.rint(share.clip(0, 1) * 255).astype(np.uint8)).save(file, "PNG")
    except FileExistsError as error:
        raise RunError(f"{path}: two pictures of --data have this name: score them one after another") from error
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from error


def require_new(folder: Path) -> None:
    """A folder for maps, made if it is not there. Raises RunError if it holds something, or cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise RunError(f"{folder}: is not empty: name a new folder for the maps")
    except OSError as error:
        raise RunError(f"{folder}: cannot be used as a folder: {error.strerror}") from error
