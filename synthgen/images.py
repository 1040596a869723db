"""Writes images and masks, and reads back the artefacts of a run, which are these very files.

Images are numpy (H, W, 3) uint8 RGB, masks (H, W) uint8 class ids with 255 = ignore. Masks are written as 8-bit L PNG,
never as palette images: several webdataset decoders turn palette indices into colours and so destroy the ids. What
people bring is read by segkit.pictures and segkit.masks.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from segkit.errors import InputError
from segkit.files import read_regular
from segkit.headers import GREY, RGB
from segkit.labels import IGNORE
from segkit.stored import decode_png
from synthgen import storage
from synthgen.files import write_bytes

__all__ = ["IGNORE", "jpeg_bytes", "png_bytes", "read_image", "read_mask", "write_image"]

MAX_FILE_BYTES = 2**29


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a PNG that `write_image` wrote.

    Raises InputError that names the file if it is missing or no longer, bit for bit, what was written.
    """
    return _read(path, RGB)


def read_mask(path: Path) -> np.ndarray:
    """(H, W) uint8 of a PNG that `write_image` wrote. Raises as `read_image` does."""
    return _read(path, GREY)


def png_bytes(array: np.ndarray, compress_level: int = 4) -> bytes:
    """PNG of an (H, W, 3) RGB image or of an (H, W) mask, uint8. Lossless; the same array gives the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(_uint8(array)).save(buffer, format="PNG", compress_level=compress_level)
    return buffer.getvalue()


def jpeg_bytes(image: np.ndarray, quality: int = 95) -> bytes:
    """JPEG 4:4:4 of an (H, W, 3) uint8 RGB image:

    chroma is kept at full resolution, since masks are judged at its edges.
    """
    buffer = io.BytesIO()
    Image.fromarray(_uint8(image)).save(buffer, format="JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def write_image(array: np.ndarray, path: Path) -> None:
    """Write a PNG (image or mask) whole or not at all."""
    write_bytes(png_bytes(array), path)


def _uint8(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8:
        raise TypeError(f"expected uint8, got {array.dtype}")
    return array


def _read(path: Path, colour_type: int) -> np.ndarray:
    storage.fetch(path)
    return decode_png(read_regular(path, MAX_FILE_BYTES, InputError), str(path), InputError, colour_type)
