"""Masks that people bring: ids as they are stored, by colour where colours tell, or one line."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles.png_writer import png
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segkit.errors import InputError, LabelError, UserError
from segkit.labels import Label, LabelSpace
from segkit.masks import decode_mask, only_unlabelled, read_colours, read_mask

SPACE = LabelSpace(
    "toy", (Label(0, "ground", (0, 0, 0)), Label(1, "cat", (200, 10, 10)), Label(5, "dog", (10, 200, 10))), 0
)
ALL = LabelSpace("all", tuple(Label(i, f"c{i}", (i, 255 - i, 7)) for i in range(254)))
MASK = np.array([[0, 1, 5], [5, 5, 255]], np.uint8)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 9), st.booleans(), st.randoms(use_true_random=False), st.data())
def test_grey_samples_of_every_depth_are_the_ids(
    width: int, height: int, interlaced: bool, numbers: random.Random, data: st.DataObject
) -> None:
    depth = data.draw(st.sampled_from([1, 2, 4, 8, 16]))
    ids = np.array([[numbers.randrange(min(2**depth, 256)) for _ in range(width)] for _ in range(height)])
    for space in (None, ALL):
        back = decode_mask(png(ids, depth, interlaced=interlaced), "m.png", space)
        assert back.dtype == np.uint8 and (back == ids).all()


@settings(deadline=None)
@given(st.sampled_from([1, 2, 4, 8]), st.integers(1, 20), st.randoms(use_true_random=False))
def test_palette_indices_of_every_depth_are_the_ids(depth: int, width: int, numbers: random.Random) -> None:
    ids = np.array([[numbers.randrange(2**depth) for _ in range(width)] for _ in range(3)])
    palette = [[numbers.randrange(256) for _ in range(3)] for _ in range(2**depth)]
    assert (decode_mask(png(ids, depth, 3, palette), "m.png") == ids).all()
    own = [*([i, 255 - i, 7] for i in range(254)), [0, 0, 0], [0, 0, 0]][: 2**depth]
    assert (decode_mask(png(ids, depth, 3, own), "m.png", ALL) == ids).all()


def test_a_palette_with_the_classes_colours_in_another_order_is_read_by_colour() -> None:
    palette = [[10, 200, 10], [0, 0, 0], [9, 9, 9], [200, 10, 10]]
    indices = np.array([[0, 0, 1], [3, 1, 0]])
    assert decode_mask(png(indices, 2, 3, palette), "m.png", SPACE).tolist() == [[5, 5, 0], [1, 0, 5]]
    every = np.arange(254)
    shuffled = random.Random(0).sample(range(254), 254)
    palette = [[i, 255 - i, 7] for i in shuffled]
    assert decode_mask(png(every[None], 8, 3, palette), "m.png", ALL)[0].tolist() == shuffled


def test_a_palette_of_another_tool_leaves_indices_as_ids() -> None:
    other = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128]]
    transparent = [(b"tRNS", b"\0")]
    ids = np.array([[0, 1, 5, 5]])
    assert decode_mask(png(ids, 8, 3, other, transparent), "m.png", SPACE).tolist() == ids.tolist()
    ramp = [[i, i, i] for i in range(256)]
    assert decode_mask(png(MASK, 8, 3, ramp), "m.png", SPACE).tolist() == MASK.tolist()
    padded = [[0, 0, 0], [200, 10, 10], *[[0, 0, 0]] * 3, [10, 200, 10], *[[0, 0, 0]] * 250]
    assert decode_mask(png(MASK, 8, 3, padded), "m.png", SPACE).tolist() == MASK.tolist(), "255 stays ignore"


@pytest.mark.parametrize(
    ("palette", "says"),
    [
        ([[200, 10, 10], [0, 0, 0], [77, 0, 0]], r"index 2 has \[77, 0, 0\], the colour of no class"),
        ([[0, 0, 0], [0, 0, 0], [0, 0, 0]], "several indices have one colour"),
        ([[200, 10, 10], [0, 0, 0]], r"index 2 has \[\], the colour of no class"),
    ],
)
def test_a_palette_that_contradicts_and_cannot_be_read_is_refused(palette: list[list[int]], says: str) -> None:
    with pytest.raises((LabelError, InputError)) as caught:
        decode_mask(png(np.array([[0, 1, 2]]), 8, 3, palette), "m.png", SPACE)
    assert "\n" not in str(caught.value)
    if len(palette) == 3:
        with pytest.raises(LabelError, match=rf"^m\.png: its palette contradicts label space 'toy': index . .*{says}"):
            decode_mask(png(np.array([[0, 1, 2]]), 8, 3, palette), "m.png", SPACE)


def test_colours_are_read_by_the_label_space() -> None:
    colours = SPACE.paint(MASK)
    colours[1, 2] = (224, 224, 192)
    assert decode_mask(png(colours, 8, 2), "m.png", SPACE).tolist() == MASK.tolist()
    odd = LabelSpace("x", (Label(3, "a", (1, 2, 3)),))
    assert decode_mask(png(np.array([[[1, 2, 3], [0, 0, 0], [255, 0, 255]]]), 8, 2), "m", odd).tolist() == [
        [3, 255, 254]
    ]


def test_unknown_colours_are_named_with_how_often_they_occur() -> None:
    colours = SPACE.paint(MASK)
    colours[0, :2] = (1, 2, 3)
    with pytest.raises(LabelError, match=r"^m\.png: colours \[1, 2, 3\] \(2 px\) are not in label space 'toy'"):
        decode_mask(png(colours, 8, 2), "m.png", SPACE)
    grey = np.repeat(np.array([[[1], [5]]]), 3, axis=2)
    with pytest.raises(LabelError, match="store one channel as 8-bit grey if they are ids"):
        decode_mask(png(grey, 8, 2), "m.png", SPACE)
    many = np.random.default_rng(0).integers(0, 256, (20, 20, 3))
    with pytest.raises(LabelError, match=r"has \d+ colours, .* without anti-aliasing"):
        decode_mask(png(many, 8, 2), "m.png", SPACE)
    with pytest.raises(InputError, match="this is an RGB image; convert colours to ids first"):
        decode_mask(png(colours, 8, 2), "m.png")


def test_equal_colours_are_refused_only_where_they_would_have_to_be_told_apart() -> None:
    twins = LabelSpace("twins", (Label(0, "a"), Label(1, "b"), Label(2, "c", (9, 9, 9))))
    assert decode_mask(png(np.array([[0, 1, 2]])), "m", twins).tolist() == [[0, 1, 2]]
    assert decode_mask(png(np.array([[[9, 9, 9]]]), 8, 2), "m", twins).tolist() == [[2]]
    with pytest.raises(LabelError, match=r"m: colour \[0, 0, 0\] is that of 'a' and 'b'"):
        decode_mask(png(np.array([[[0, 0, 0]]]), 8, 2), "m", twins)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (png(np.array([[0, 257]]), 16), "id 257 does not fit 8 bits"),
        (png(np.zeros((2, 2, 2), int), 8, 4), "this is an LA image"),
        (png(np.zeros((2, 2, 4), int), 8, 6), "this is an RGBA image"),
        (png(np.zeros((2, 2, 4), int), 16, 6), "this is an RGBA image"),
        (png(np.zeros((2, 2, 3), int), 16, 2), "this is an RGB image of 16 bits"),
        (saved(Image.new("L", (4, 4)), "JPEG"), "is JPEG inside, a mask must be a PNG: JPEG changes ids"),
        (saved(Image.new("L", (4, 4)), "BMP"), "is BMP inside"),
        (saved(Image.new("L", (4, 4)), "TIFF"), "is TIFF inside"),
        (saved(Image.new("L", (4, 4)), "GIF"), "is GIF inside"),
        (saved(Image.new("L", (4, 4)), "WEBP"), "is WebP inside"),
        (b"", "is no picture inside"),
        (b"<html>", "is no picture inside"),
        (b"\x89PNG\r\n\x1a\n", "not a PNG"),
        (png(np.zeros((1, 1), int), 8, 3), "it has no palette"),
        (png(np.zeros((1, 1), int), 3), "cannot be read as an image"),
    ],
)
def test_what_holds_no_ids_is_one_line(data: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        decode_mask(data, "m.png", SPACE)
    assert str(caught.value).startswith("m.png: ") and "\n" not in str(caught.value)


def test_ids_of_no_class_are_refused() -> None:
    with pytest.raises(LabelError, match=r"m\.png: ids 3 are not in label space 'toy'"):
        decode_mask(png(np.array([[0, 3]])), "m.png", SPACE)


def test_megabytes_of_text_beside_the_pixels_are_passed_over() -> None:
    import zlib

    text = (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3 * 2**20)))
    assert decode_mask(png(MASK, before=[text, (b"gAMA", b"")]), "m.png", SPACE).tolist() == MASK.tolist()


def test_a_mask_that_is_turned_by_exif_is_refused() -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = saved(Image.fromarray(MASK), exif=exif)
        if orientation == 1:
            assert decode_mask(data, "m.png").tolist() == MASK.tolist()
        else:
            with pytest.raises(InputError, match=r"m\.png: has an EXIF orientation"):
                decode_mask(data, "m.png")


def test_a_flipped_bit_never_gives_other_ids() -> None:
    data = png(MASK)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(UserError) as caught:
            decode_mask(bytes(damaged), "m.png", SPACE)
        assert "\n" not in str(caught.value)


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_no_chunk_makes_a_traceback(content: bytes) -> None:
    for kind in (b"IDAT", b"PLTE", b"tRNS", b"eXIf", b"iCCP", b"acTL", b"IHDR"):
        try:
            decode_mask(png(MASK, before=[(kind, content)]), "m.png", SPACE)
        except UserError as error:
            assert "\n" not in str(error)


def test_absurd_sizes_are_refused_before_a_pixel_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    path.write_bytes(png(np.zeros((1, 1), int))[:16] + b"\0\0\xff\xff\0\0\xff\xff" + bytes(9000))
    with pytest.raises(InputError, match="claims 65535 x 65535 pixels"):
        read_mask(path)


def test_colours_of_label_files_are_read_as_stored(tmp_path: Path) -> None:
    colours = np.arange(12).reshape(2, 2, 3)
    (tmp_path / "rgb.png").write_bytes(png(colours, 8, 2))
    assert (read_colours(tmp_path / "rgb.png") == colours).all()
    (tmp_path / "p.png").write_bytes(png(np.array([[1, 0]]), 1, 3, [[1, 2, 3], [4, 5, 6]]))
    assert read_colours(tmp_path / "p.png").tolist() == [[[4, 5, 6], [1, 2, 3]]]
    (tmp_path / "grey.png").write_bytes(png(MASK))
    with pytest.raises(InputError, match="must store a colour a pixel"):
        read_colours(tmp_path / "grey.png")


def test_masks_that_label_nothing_say_so() -> None:
    assert only_unlabelled({0, 1, 255}, SPACE) == only_unlabelled({5}, SPACE) == only_unlabelled(set(), SPACE) == ""
    assert "only 0 and 255, and 255 means unlabelled" in only_unlabelled({0, 255}, SPACE)
    assert "only 0 and 255, and 255 means unlabelled" in only_unlabelled({0, 255}, ALL)
    assert only_unlabelled({0, 255}, LabelSpace("one", SPACE.labels[:1])) == "", "its only class is 0"
    assert "every pixel of the masks is 255" in only_unlabelled({255}, SPACE)
    assert "only 0, which is the background" in only_unlabelled({0}, SPACE)
