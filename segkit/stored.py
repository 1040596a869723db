"""Decodes the JPEG and PNG files that the packages themselves have written: members of shards, artefacts of runs.

What they are is known to the byte, so anything else is damage: another kind, another depth, a check sum that differs.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from segkit.errors import InputError, UserError
from segkit.headers import DECODER_ERRORS, GREY, RGB, jpeg_header, png_header, require_whole_png
from segkit.printable import in_one_line

_KINDS = {GREY: ("L", "an 8-bit L PNG"), RGB: ("RGB", "an 8-bit RGB PNG")}


def decode_jpeg(data: bytes, where: str, error: type[UserError] = InputError) -> np.ndarray:
    """(H, W, 3) uint8 RGB. Raises `error`."""
    header = jpeg_header(data, where, error)
    if not data.endswith(b"\xff\xd9"):
        raise error(f"{where}: the JPEG does not end with its end mark")
    return _decode(data, "JPEG", "RGB", header.size, where, error)


def decode_png(data: bytes, where: str, error: type[UserError] = InputError, colour_type: int = GREY) -> np.ndarray:
    """(H, W) uint8 as stored, or (H, W, 3) with `colour_type` RGB. Raises `error`, also for a PNG of another kind:
    palette masks lose their ids in common loaders."""
    header = png_header(data, where, error)
    mode, kind = _KINDS[colour_type]
    if (header.depth, header.colour_type) != (8, colour_type):
        raise error(f"{where}: must be {kind}, this has {header.depth} bits and colour type {header.colour_type}")
    require_whole_png(data, where, error)
    return _decode(data, "PNG", mode, header.size, where, error)


def _decode(data: bytes, kind: str, mode: str, size: tuple[int, int], where: str, error: type[UserError]) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data), formats=(kind,)) as image:
            if image.mode != mode or (image.height, image.width) != size:
                is_now = f"{image.height} x {image.width} {image.mode}"
                raise error(f"{where}: must be {size[0]} x {size[1]} {mode}, the decoder finds {is_now}")
            return np.array(image, dtype=np.uint8)
    except DECODER_ERRORS as reason:
        raise error(f"{where}: cannot be decoded ({in_one_line(reason)})") from reason
