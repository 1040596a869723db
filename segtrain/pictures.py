"""Decoding of images and masks; what cannot be decoded is named in one line."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from segtrain.errors import DataError


def decode_pair(image_bytes: bytes, mask_bytes: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) uint8 RGB and mask (H, W) uint8 ids. Raises DataError naming `where`."""
    image = _decode(image_bytes, f"image of {where}")
    mask = _decode_ids(mask_bytes, where)
    if image.size != mask.size:
        raise DataError(
            f"{where}: the image is {image.width} x {image.height} px, its mask {mask.width} x {mask.height}: "
            "they must be the same"
        )
    return np.asarray(image.convert("RGB")), np.asarray(mask)


def decode_mask(data: bytes, where: str) -> np.ndarray:
    """(H, W) uint8 ids. Raises DataError naming `where`."""
    return np.asarray(_decode_ids(data, where))


def decode_confidence(data: bytes, shape: tuple[int, ...], where: str) -> np.ndarray:
    """(H, W) uint8 of the shape. Raises DataError naming `where`."""
    values = np.asarray(_decode_ids(data, where))
    if values.shape != shape:
        raise DataError(f"{where}: the confidence is {values.shape[1]} x {values.shape[0]} px, unlike the mask")
    return values


def _decode_ids(data: bytes, where: str) -> Image.Image:
    mask = _decode(data, f"mask of {where}")
    if mask.mode not in ("L", "P"):
        raise DataError(f"mask of {where}: mode {mask.mode}, must be an 8-bit PNG of class ids (L or P)")
    return mask


def _decode(data: bytes, where: str) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except UnidentifiedImageError as error:
        raise DataError(f"{where}: not an image file") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        # Pillow reports a broken PNG chunk as SyntaxError.
        raise DataError(f"{where}: cannot be decoded: {' '.join(str(error).split())}") from error
    return picture
