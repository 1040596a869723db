"""Photographs that people bring: upright, of 8 bits, without hidden colours, or one line; pairs with their masks."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles.png_writer import png
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segkit.errors import InputError, LabelError, UserError
from segkit.headers import MAX_PIXELS
from segkit.labels import Label, LabelSpace
from segkit.pictures import decode_image, image_size, read_image, read_pair, require_same_size

SPACE = LabelSpace("toy", (Label(0, "ground", (0, 0, 0)), Label(1, "cat", (200, 10, 10))), 0)
KINDS = {"PNG": {}, "TIFF": {}, "BMP": {}, "WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}
UPRIGHT = np.zeros((16, 24, 3), np.uint8)
UPRIGHT[:8, :8] = (250, 20, 20)
UPRIGHT[8:, 16:] = (20, 20, 250)
STORED = {  # EXIF orientation -> how a camera stores what should look as UPRIGHT (EXIF 2.3, tag 274)
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: np.rot90(UPRIGHT, 1),
    7: np.rot90(UPRIGHT, 2).transpose(1, 0, 2),
    8: np.rot90(UPRIGHT, -1),
}


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(Image.fromarray(np.ascontiguousarray(STORED[orientation])), kind, exif=exif, **KINDS[kind])


def tiff(samples: np.ndarray, bits: int) -> bytes:
    """An uncompressed little-endian TIFF of (H, W, 3) samples of 8 or 16 bits (TIFF 6.0)."""
    height, width, count = samples.shape
    content = samples.astype("<u2" if bits == 16 else "u1").tobytes()
    after = 8 + 2 + 9 * 12 + 4
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, count, after), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 1, after + 2 * count), (277, 3, 1, count), (278, 4, 1, height), (279, 4, 1, len(content))]
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return head + bytes(4) + struct.pack(f"<{count}H", *[bits] * count) + content


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_exif_orientation_is_laid_upright(tmp_path: Path, orientation: int, kind: str) -> None:
    path = tmp_path / "photo"
    path.write_bytes(turned(orientation, kind))
    image = read_image(path)
    assert image.shape == UPRIGHT.shape and image_size(path) == UPRIGHT.shape[:2]
    assert np.abs(image.astype(int) - UPRIGHT).max() < 12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "photo"])
def test_what_a_file_is_its_bytes_say(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / name).write_bytes(saved(Image.fromarray(UPRIGHT), kind, **KINDS[kind]))
    assert np.abs(read_image(tmp_path / name).astype(int) - UPRIGHT).max() < 12
    assert image_size(tmp_path / name) == (16, 24)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "YCbCr", "CMYK"])
def test_every_opaque_eight_bit_mode_is_read_as_rgb(mode: str) -> None:
    image = Image.fromarray(np.full((4, 6), 255, np.uint8)).convert(mode)
    for kind in ("TIFF", *(["PNG"] if mode in ("1", "L", "P", "RGB") else ["JPEG"])):
        back = decode_image(saved(image, kind), "photo")
        assert back.shape == (4, 6, 3) and back.dtype == np.uint8 and back.min() > 250


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_photographs_below_eight_bits_span_black_to_white(depth: int) -> None:
    assert decode_image(png(np.array([[0, 2**depth - 1]]), depth), "photo")[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize(
    "data",
    [
        png(np.full((2, 2, 4), 255), 8, 6),
        png(np.full((2, 2, 2), 255), 8, 4),
        png(np.zeros((2, 2), int), 8, 3, [[1, 2, 3]], [(b"tRNS", b"\0")]),
        png(np.zeros((2, 2, 3), int), 8, 2, (), [(b"tRNS", bytes(6))]),
        saved(Image.new("RGBA", (2, 2)), "WEBP"),
        saved(Image.new("RGBA", (2, 2)), "TIFF"),
    ],
)
def test_what_transparency_may_hide_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "photo").write_bytes(data)
    for read in (read_image, image_size):
        with pytest.raises(InputError, match=r"has an alpha channel or a transparent colour, .* save it without"):
            read(tmp_path / "photo")


@pytest.mark.parametrize(
    "data",
    [
        png(np.full((2, 2), 30000), 16),
        png(np.full((2, 2, 3), 30000), 16, 2),
        tiff(np.full((2, 2, 3), 30000), 16),
        saved(Image.fromarray(np.full((2, 2), 30000, np.uint16)), "TIFF"),
        saved(Image.fromarray(np.full((2, 2), 0.5, np.float32)), "TIFF"),
        saved(Image.fromarray(np.full((2, 2), 70000, np.int32)), "TIFF"),
    ],
)
def test_more_than_eight_bits_are_refused_rather_than_cut(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "photo").write_bytes(data)
    for read in (read_image, image_size):
        with pytest.raises(InputError, match=r"photo: has more than 8 bits a channel .*; convert it to 8 bits first"):
            read(tmp_path / "photo")


def test_the_tiff_of_these_tests_is_one() -> None:
    samples = np.arange(12).reshape(2, 2, 3)
    assert (decode_image(tiff(samples, 8), "photo") == samples).all()


def test_only_known_kinds_are_opened(tmp_path: Path) -> None:
    for kind in ("GIF", "ICO", "PPM", "TGA", "PCX", "DDS", "SGI"):
        path = tmp_path / "photo.jpg"
        path.write_bytes(saved(Image.new("L" if kind == "GIF" else "RGB", (4, 4)), kind))
        for read in (read_image, image_size):
            with pytest.raises(InputError, match="inside it is no JPEG, PNG, WebP, BMP, TIFF or HEIC"):
                read(path)


@pytest.mark.parametrize("read", [read_image, image_size])
def test_what_is_no_image_is_one_clear_line(tmp_path: Path, read: Any) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("empty.png", "text.png", "folder.png", "missing.png", "text.png/below.png", "pipe.png"):
        with pytest.raises(InputError) as caught:
            read(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_picture_is_never_read_as_a_grey_one(kind: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    data = saved(Image.fromarray(image), kind, **KINDS[kind])
    for left in (0.05, 0.2, 0.5, 0.9):
        with pytest.raises(InputError, match=r"^photo: .*(cannot be read as an image|cut short)") as caught:
            decode_image(data[: int(left * len(data))], "photo")
        assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_a_png_never_gives_other_pixels() -> None:
    data = png(UPRIGHT[:3, :3], 8, 2)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InputError):
            decode_image(bytes(damaged), "photo")


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(KINDS)), st.integers(0, 10**6), st.integers(0, 255), st.integers(0, 10**6))
def test_no_damage_makes_a_traceback(kind: str, place: int, value: int, cut: int) -> None:
    data = bytearray(turned(6, kind) if kind != "BMP" else saved(Image.fromarray(UPRIGHT), kind))
    data[place % min(len(data), 300)] = value
    try:
        decode_image(bytes(data[: len(data) - cut % 3 * 40]), "photo")
    except UserError as error:
        assert "\n" not in str(error)


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from([b"zTXt", b"iTXt", b"tEXt", b"iCCP", b"gAMA", b"pHYs", b"sRGB", b"eXIf", b"acTL", b"fcTL"]),
    st.binary(max_size=60),
)
def test_no_png_chunk_makes_a_traceback(kind: bytes, content: bytes) -> None:
    try:
        decode_image(png(UPRIGHT, 8, 2, (), [(kind, content)]), "photo")
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_absurd_sizes_are_refused_before_a_pixel_is_decoded(tmp_path: Path, kind: str) -> None:
    side = 10_000
    assert side * side > MAX_PIXELS
    data = bytearray(saved(Image.new("RGB", (16, 16)), kind))
    if kind == "PNG":
        data = bytearray(png(np.zeros((1, 1, 3), int), 8, 2))
        data[16:24] = struct.pack(">II", side, side)
    elif kind == "BMP":
        data[18:26] = struct.pack("<II", side, side)
    else:
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", side, side)
    path = tmp_path / "photo"
    path.write_bytes(data)
    for read in (read_image, image_size):
        with pytest.raises(InputError):
            read(path)


def test_a_pair_has_one_size(tmp_path: Path) -> None:
    image, mask = tmp_path / "a.jpg", tmp_path / "a.png"
    image.write_bytes(turned(6, "JPEG"))
    mask.write_bytes(png(np.ones((16, 24), int)))
    pixels, ids = read_pair(image, mask, SPACE)
    assert pixels.shape == (16, 24, 3) and ids.shape == (16, 24)
    mask.write_bytes(png(np.full((16, 24), 9)))
    with pytest.raises(LabelError, match=r"a\.png: ids 9 are not in label space 'toy'"):
        read_pair(image, mask, SPACE)


def test_a_mask_on_its_side_is_told_of_exif_and_never_to_be_resized(tmp_path: Path) -> None:
    image, mask = tmp_path / "a.jpg", tmp_path / "a.png"
    mask.write_bytes(png(np.ones((24, 16), int)))
    image.write_bytes(turned(6, "JPEG"))
    with pytest.raises(
        InputError, match=r"a\.png: is 24 x 16 px \(H x W\), its image 16 x 24; .*EXIF orientation \(6\)"
    ):
        read_pair(image, mask, SPACE)
    image.write_bytes(turned(1, "JPEG"))
    with pytest.raises(InputError, match="an EXIF rotation was lost") as caught:
        read_pair(image, mask, SPACE)
    assert "resize it" not in str(caught.value)
    mask.write_bytes(png(np.ones((8, 12), int)))
    with pytest.raises(InputError, match="or resize it by nearest neighbour"):
        read_pair(image, mask, SPACE)
    require_same_size((16, 24), mask, image)
