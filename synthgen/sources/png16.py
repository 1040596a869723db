"""Reads colour PNGs of 16 bits a channel, which Pillow cuts to the upper 8:

SYNTHIA keeps its class ids in the lower ones.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from synthgen.errors import InputError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 6: 4}  # colour type -> channels
MAX_PX = 2**26
"""More pixels are taken for a decompression bomb, as Pillow does."""


def read_png16(path: Path) -> np.ndarray:
    """(H, W, 3 or 4) uint16. Raises InputError for a damaged file, or one of another kind or interlaced."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        header, body = _chunks(data)
        width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
        if depth != 16 or colour not in _CHANNELS or interlaced:
            raise ValueError(
                f"it has {depth} bits a channel, colour type {colour}{', interlaced' if interlaced else ''}"
            )
        if not 0 < width * height <= MAX_PX:
            raise ValueError(f"{width} x {height} px")
        size = height * (1 + width * 2 * _CHANNELS[colour])
        raw = zlib.decompressobj().decompress(body, size)
        if len(raw) != size:
            raise ValueError(f"it ends after {len(raw)} of {size} bytes")
        rows = np.frombuffer(raw, np.uint8).reshape(height, -1)
        found = unfiltered(rows[:, 0], rows[:, 1:].reshape(height, width, -1))
    except (ValueError, struct.error, zlib.error, IndexError) as error:
        raise InputError(f"{path}: not a whole 16-bit colour PNG ({error}); remove or replace the file") from error
    return found.view(">u2").astype(np.uint16)


def unfiltered(filters: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """(H,) filter types and (H, W, B) filtered bytes -> (H, W, B) uint8 bytes (PNG specification, clause 9).

    A pixel needs its left, upper and upper left neighbours, so all pixels of an anti-diagonal are done at once.
    """
    if filters.max() > 4:
        raise ValueError(f"filter type {filters.max()}")
    height, width, num_bytes = raw.shape
    found = np.zeros((height + 1, width + 1, num_bytes), np.uint8)  # a row and a column of zeros before the first
    for diagonal in range(height + width - 1):
        row = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        column = diagonal - row
        left, up, corner = (
            found[row + down, column + across].astype(np.int16) for down, across in ((1, 0), (0, 1), (0, 0))
        )
        kind = filters[row][:, None]
        nearest = np.abs(up - corner), np.abs(left - corner), np.abs(left + up - 2 * corner)
        paeth = np.where(
            (nearest[0] <= nearest[1]) & (nearest[0] <= nearest[2]),
            left,
            np.where(nearest[1] <= nearest[2], up, corner),
        )
        predicted = np.select([kind == 1, kind == 2, kind == 3, kind == 4], [left, up, (left + up) // 2, paeth], 0)
        found[row + 1, column + 1] = (raw[row, column] + predicted).astype(np.uint8)
    return np.ascontiguousarray(found[1:, 1:])


def _chunks(data: bytes) -> tuple[bytes, bytes]:
    """(IHDR, all IDAT joined)."""
    if not data.startswith(_SIGNATURE):
        raise ValueError("it is no PNG")
    place, header, body = len(_SIGNATURE), b"", []
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        content = data[place + 8 : place + 8 + length]
        if (
            place + 12 + length > len(data)
            or zlib.crc32(kind + content) != struct.unpack_from(">I", data, place + 8 + length)[0]
        ):
            raise ValueError(f"its part {kind!r} is damaged")
        if kind == b"IHDR":
            header = content
        elif kind == b"IDAT":
            body.append(content)
        elif kind == b"IEND":
            break
        place += 12 + length
    return header, b"".join(body)
