"""Decodes the JPEG and PNG members of a shard, header first.

The size is read from the header bytes before a decoder sees them, so that a file of some kilobytes that
claims gigapixels is refused without allocating a pixel.
"""

from __future__ import annotations

import dataclasses
import io
import struct
import zlib

import numpy as np
from PIL import Image

from synthgen.errors import DatasetError

MAX_PIXELS = 2**26  # 8192 x 8192, four times the largest image that a recipe may ask for
_PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_SOF_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    ArithmeticError,
    AttributeError,
    struct.error,
    zlib.error,
)


@dataclasses.dataclass(frozen=True, slots=True)
class JpegHeader:
    """Of the frame. `subsampling` is (horizontal, vertical) per component: equal ones are 4:4:4."""

    size: tuple[int, int]
    subsampling: tuple[tuple[int, int], ...]


def jpeg_header(data: bytes, where: str) -> JpegHeader:
    """Size (H, W) and components from the first frame header. Raises DatasetError if there is none."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at + 4 : at + 2 + length]
        if marker in _SOF_MARKERS and len(segment) >= 6 and len(segment) >= 6 + 3 * segment[5]:
            _, height, width, count = struct.unpack(">BHHB", segment[:6])
            factors = tuple((segment[7 + 3 * i] >> 4, segment[7 + 3 * i] & 15) for i in range(count))
            _sane((height, width), where)
            return JpegHeader((height, width), factors)
        at += 2 + length
    raise DatasetError(f"{where}: not a JPEG")


def png_size(data: bytes, where: str) -> tuple[int, int]:
    """(H, W) of an 8-bit L PNG. Raises DatasetError for any other kind: palette masks lose their ids in
    common loaders.
    """
    if len(data) < 33 or not data.startswith(_PNG_START):
        raise DatasetError(f"{where}: not a PNG")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    if (depth, colour) != (8, 0):
        raise DatasetError(f"{where}: must be an 8-bit L PNG, this has {depth} bits and colour type {colour}")
    _sane((height, width), where)
    return height, width


def decode_jpeg(data: bytes, where: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB. Raises DatasetError."""
    header = jpeg_header(data, where)
    if not data.endswith(b"\xff\xd9"):
        raise DatasetError(f"{where}: the JPEG does not end with its end mark")
    return _decode(data, "JPEG", "RGB", header.size, where)


def decode_png(data: bytes, where: str) -> np.ndarray:
    """(H, W) uint8 as stored. Raises DatasetError."""
    size = png_size(data, where)
    _whole_png(data, where)
    return _decode(data, "PNG", "L", size, where)


def _whole_png(data: bytes, where: str) -> None:
    """Raise DatasetError unless every chunk is whole with its check sum and IEND is the last byte;

    Pillow lets much of that pass.
    """
    at, name = 8, b""
    while name != b"IEND":
        length = int.from_bytes(data[at : at + 4], "big")
        name, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise DatasetError(f"{where}: the PNG is cut short or damaged, in chunk {name!r}")
        at = end
    if at != len(data):
        raise DatasetError(f"{where}: {len(data) - at} bytes follow the end of the PNG")


def _decode(data: bytes, kind: str, mode: str, size: tuple[int, int], where: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data), formats=(kind,)) as image:
            if image.mode != mode or (image.height, image.width) != size:
                found = f"{image.height} x {image.width} {image.mode}"
                raise DatasetError(f"{where}: must be {size[0]} x {size[1]} {mode}, the decoder finds {found}")
            return np.array(image, dtype=np.uint8)
    except (*_DECODER_ERRORS, Image.DecompressionBombError) as error:
        raise DatasetError(f"{where}: cannot be decoded ({error})") from error


def _sane(size: tuple[int, int], where: str) -> None:
    if not 0 < size[0] * size[1] <= MAX_PIXELS:
        raise DatasetError(f"{where}: claims {size[0]} x {size[1]} pixels; 1..{MAX_PIXELS} are read")
