"""The one place that reads and writes images and masks.

Images are numpy (H, W, 3) uint8 RGB, masks (H, W) uint8 class ids with 255 = ignore. Masks are written as 8-bit L PNG,
never as palette images: several webdataset decoders turn palette indices into colours and so destroy the ids.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from synthgen import storage
from synthgen.errors import InputError
from synthgen.files import write_bytes

IGNORE = 255
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB. Raises InputError that names the file if it is missing, damaged, no image, or not of 8 bits."""
    image = _open(path)
    if image.mode.startswith(("I", "F")):  # Pillow would cut every value above 255 to white
        raise InputError(f"{path}: has more than 8 bits a channel (mode {image.mode}); convert it to 8 bits first")
    return np.asarray(image.convert("RGB"), dtype=np.uint8)


def read_mask(path: Path) -> np.ndarray:
    """(H, W) uint8 ids of an 8-bit L or palette image, as stored: a palette is never turned into colours.

    Raises InputError for a missing or damaged file, a colour image, or ids above 255.
    """
    image = _open(path)
    if image.mode not in ("L", "P", "1", "I;16", "I"):
        raise InputError(
            f"{path}: a mask must hold one class id a pixel (mode L or P), this is a {image.mode} image; convert "
            "colours to ids first"
        )
    mask = np.asarray(image)
    for extreme in (int(mask.min()), int(mask.max())) if mask.size else ():
        if not 0 <= extreme <= IGNORE:
            raise InputError(f"{path}: id {extreme} does not fit 8 bits; ids must be 0..254, 255 = ignore")
    return mask.astype(np.uint8)


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) from the file's header alone. Raises InputError for what is no image."""
    storage.fetch(path)
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error}); remove or replace the file") from error


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


def _open(path: Path) -> Image.Image:
    storage.fetch(path)
    try:
        with Image.open(path) as image:  # closes the file of a damaged image too
            image.load()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error}); remove or replace the file") from error
    return image
