"""HEIC photographs, as telephones store them: read through pillow-heif, which the extra `heic` installs."""

from __future__ import annotations

import importlib.util
import sys
from typing import BinaryIO

from PIL import Image

from segkit.errors import InputError

HEIF_SUFFIXES = (".heic", ".heif")
MISSING = "HEIC needs pillow-heif: pip install 'synthgen-seg[heic]', or save the pictures as JPEG"
"""The way out where the extra is not installed."""


def can_read_heif() -> bool:
    """Whether pillow-heif is installed; it is not imported."""
    if "pillow_heif" in sys.modules:
        return sys.modules["pillow_heif"] is not None
    return importlib.util.find_spec("pillow_heif") is not None


def open_heif(file: BinaryIO, where: str) -> Image.Image:
    """The primary picture of a HEIC file with its header read, not decoded. The decoder lays it upright: its size is
    that of the upright picture, and `stored_orientation` says how it was stored.

    Raises InputError without pillow-heif, and what segkit.headers.DECODER_ERRORS lists for a damaged file.
    """
    if not can_read_heif():
        raise InputError(f"{where}: {MISSING}")
    # its own class, not a registration: `Image.open` of other libraries stays as it is
    from pillow_heif import HeifImageFile

    image: Image.Image = HeifImageFile(file)
    return image


def stored_orientation(image: Image.Image) -> int:
    """The EXIF orientation 1..8 that a picture of `open_heif` was stored with, before the decoder turned it."""
    orientation: int | None = image.info.get("original_orientation")
    return orientation if orientation is not None and 1 <= orientation <= 8 else 1


def heif_bits(image: Image.Image) -> int:
    """Bits a channel of a picture of `open_heif`, as stored."""
    return int(image.info.get("bit_depth", 8))
