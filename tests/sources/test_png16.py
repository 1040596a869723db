"""16-bit colour PNGs: every filter against an encoder written out byte by byte, which Pillow must be able to read."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from synthgen.errors import InputError
from synthgen.sources.png16 import read_png16


def paeth(left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    # min takes the first of equals, as the specification does
    return min((left, up, corner), key=lambda value: abs(guess - value))


def encoded(channels: np.ndarray, filters: list[int]) -> bytes:
    height, width, count = channels.shape
    plain = channels.astype(">u2").tobytes()
    step, length = 2 * count, 2 * count * width
    rows = [plain[i * length : (i + 1) * length] for i in range(height)]
    out = bytearray()
    for i, row in enumerate(rows):
        above = rows[i - 1] if i else bytes(length)
        out.append(filters[i])
        for j, value in enumerate(row):
            left, up, corner = (row[j - step] if j >= step else 0), above[j], (above[j - step] if j >= step else 0)
            out.append((value - [0, left, up, (left + up) // 2, paeth(left, up, corner)][filters[i]]) % 256)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[count], 0, 0, 0)
    body = zlib.compress(bytes(out))
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", body[:7]), chunk(b"IDAT", body[7:]), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 7), st.integers(1, 7), st.sampled_from([3, 4]))
def test_every_filter(tmp_path_factory: pytest.TempPathFactory, seed: int, height: int, width: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    channels = rng.integers(0, 65536, (height, width, count)).astype(np.uint16)
    path = tmp_path_factory.mktemp("png") / "a.png"
    path.write_bytes(encoded(channels, rng.integers(0, 5, height).tolist()))
    assert (read_png16(path) == channels).all()
    if count == 3:
        assert (np.asarray(Image.open(path)) == channels >> 8).all(), (
            "Pillow reads the upper bytes, so this is a proper PNG"
        )


def test_damaged_and_foreign_files_are_one_line(tmp_path: Path) -> None:
    whole = encoded(np.full((5, 6, 3), 300, np.uint16), [4] * 5)
    path = tmp_path / "a.png"
    for place in range(0, len(whole), 3):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 65]) + whole[place + 1 :]):
            path.write_bytes(damaged)
            with pytest.raises(InputError) as caught:
                read_png16(path)
            assert "\n" not in str(caught.value) and str(caught.value).startswith(f"{path}: ")
    Image.new("RGB", (3, 3)).save(path)
    with pytest.raises(InputError, match="must be a 16-bit colour PNG, this has 8 bits, type 2"):
        read_png16(path)
    with pytest.raises(InputError, match="no such file"):
        read_png16(tmp_path / "none.png")
