"""Writes PNGs of every depth and colour type, sample by sample, by the PNG specification and without a library."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # Adam7


def chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk with its check sum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    samples: np.ndarray,
    depth: int = 8,
    colour_type: int = 0,
    palette: Sequence[Sequence[int]] = (),
    before: Sequence[tuple[bytes, bytes]] = (),
    interlaced: bool = False,
) -> bytes:
    """A PNG of (H, W) or (H, W, C) samples of `depth` bits, unscaled; `before` are chunks to put before the pixels."""
    height, width = samples.shape[:2]
    pixels = samples.reshape(height, width, -1)
    parts = [pixels[y::dy, x::dx] for x, y, dx, dy in PASSES] if interlaced else [pixels]
    body = b"".join(b"\0" + _packed(row, depth) for part in parts if part.size for row in part)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlaced)
    chunks = [(b"IHDR", header)]
    chunks += [(b"PLTE", bytes(value for colour in palette for value in colour))] if palette else []
    chunks += [*before, (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, content) for kind, content in chunks)


def _packed(row: np.ndarray, depth: int) -> bytes:
    text = "".join(f"{int(value):0{depth}b}" for value in row.ravel())
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")
