"""Reading and writing images and masks."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from synthgen.errors import InputError, StorageError
from synthgen.files import write_bytes
from synthgen.images import image_size, jpeg_bytes, png_bytes, read_image, read_mask, write_image

sides = st.integers(1, 9)


@settings(deadline=None, max_examples=40)
@given(arrays.arrays(np.uint8, st.tuples(sides, sides)))
def test_masks_come_back_id_by_id(tmp_path_factory: pytest.TempPathFactory, mask: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("m") / "mask.png"
    write_image(mask, path)
    back = read_mask(path)
    assert back.dtype == np.uint8 and (back == mask).all()
    with Image.open(path) as stored:
        assert stored.mode == "L", "a palette image would be decoded to colours by loaders"
    assert image_size(path) == mask.shape


@settings(deadline=None, max_examples=40)
@given(arrays.arrays(np.uint8, st.tuples(sides, sides, st.just(3))))
def test_images_come_back_pixel_by_pixel(tmp_path_factory: pytest.TempPathFactory, image: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("i") / "image.png"
    write_image(image, path)
    assert (read_image(path) == image).all()
    assert image_size(path) == image.shape[:2]
    assert png_bytes(image) == png_bytes(image.copy())


def test_palette_masks_are_read_as_ids_and_not_as_colours(tmp_path: Path) -> None:
    ids = np.array([[0, 5], [20, 255]], np.uint8)
    image = Image.fromarray(ids).convert("P")
    image.putdata(ids.ravel().tolist())
    image.putpalette([(7 * i) % 256 for i in range(768)])
    image.save(tmp_path / "mask.png")
    assert (read_mask(tmp_path / "mask.png") == ids).all()


def test_sixteen_bit_masks_with_small_ids_are_read(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 19], [200, 255]], np.uint16)).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == [[0, 19], [200, 255]]


@pytest.mark.parametrize(("value", "kind"), [(256, np.uint16), (65535, np.uint16), (-1, np.int32), (70000, np.int32)])
def test_ids_beyond_eight_bits_are_refused_not_wrapped(tmp_path: Path, value: int, kind: Any) -> None:
    path = tmp_path / "mask.tif"
    Image.fromarray(np.array([[3, value]], kind)).save(path)
    with pytest.raises(
        InputError, match=rf"mask\.tif: id {value} does not fit 8 bits; ids must be 0\.\.254, 255 = ignore"
    ):
        read_mask(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "CMYK", "F"])
def test_colour_images_are_no_masks(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "mask.tif"
    Image.new(mode, (4, 4)).save(path)
    with pytest.raises(
        InputError,
        match=f"a mask must hold one class id a pixel .* this is a {mode} image; convert colours to ids first",
    ):
        read_mask(path)


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA", "CMYK"])
def test_every_eight_bit_image_is_read_as_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image.tif"
    Image.new(mode, (4, 2)).save(path)
    assert read_image(path).shape == (2, 4, 3)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_deep_photographs_are_refused_rather_than_read_as_white(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "photo.tif"
    Image.fromarray(np.full((4, 4), 30000, kind)).save(path)
    with pytest.raises(InputError, match=r"photo\.tif: has more than 8 bits a channel .*; convert it to 8 bits first"):
        read_image(path)


@pytest.mark.parametrize("read", [read_image, read_mask, image_size])
def test_what_is_no_image_is_one_clear_line(tmp_path: Path, read: Any) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "folder.png").mkdir()
    for name in ("empty.png", "text.png", "folder.png", "missing.png", "text.png/below.png"):
        with pytest.raises(InputError) as caught:
            read(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_image_is_never_read_as_a_grey_one(tmp_path: Path, suffix: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    data = png_bytes(image) if suffix == "png" else jpeg_bytes(image)
    path = tmp_path / f"cut.{suffix}"
    for left in (0.2, 0.5, 0.9):
        path.write_bytes(data[: int(left * len(data))])
        with pytest.raises(InputError, match=r"cannot be read as an image .*; remove or replace the file"):
            read_image(path)


def test_jpeg_keeps_chroma_at_full_resolution() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, ::2] = (255, 0, 0)
    with Image.open(io.BytesIO(jpeg_bytes(image))) as back:
        assert [part[1:3] for part in back.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]
        error = np.abs(np.asarray(back).astype(int) - image).mean()
    assert error < 3, "with 4:2:0 the columns would run together"
    assert len(jpeg_bytes(image, 50)) < len(jpeg_bytes(image, 95))


@pytest.mark.parametrize("encode", [png_bytes, jpeg_bytes])
def test_only_bytes_are_encoded(encode: Any) -> None:
    with pytest.raises(TypeError, match="expected uint8, got float64"):
        encode(np.zeros((4, 4, 3)))


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_full_disk_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*args: object) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "a.png"
    write_bytes(b"old", path)
    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), full)
    with pytest.raises(
        StorageError,
        match=r"a\.png: cannot be written \(No space left on device\); free the space or mend the permissions",
    ):
        write_bytes(b"new", path)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == {"a.png": b"old"}


def test_path_below_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match=r"cannot be written \(Not a directory\)"):
        write_bytes(b"new", tmp_path / "file" / "a.png")
    assert (tmp_path / "file").read_text() == "mine"
