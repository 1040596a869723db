"""Writing images and masks, and reading back what was written: the artefacts of a run."""

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
from synthgen.images import jpeg_bytes, png_bytes, read_image, read_mask, write_image

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


@settings(deadline=None, max_examples=40)
@given(arrays.arrays(np.uint8, st.tuples(sides, sides, st.just(3))))
def test_images_come_back_pixel_by_pixel(tmp_path_factory: pytest.TempPathFactory, image: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("i") / "image.png"
    write_image(image, path)
    assert (read_image(path) == image).all()
    assert png_bytes(image) == png_bytes(image.copy())


def test_a_flipped_bit_in_an_artefact_is_never_read_as_other_pixels(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    path = tmp_path / "artefact.png"
    for array, read in ((image, read_image), (image[..., 0], read_mask)):
        data = png_bytes(array)
        for bit in range(8 * len(data)):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            with pytest.raises(InputError, match=r"artefact\.png: ") as caught:
                read(path)
            assert "\n" not in str(caught.value)


def test_an_artefact_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "artefact.png"
    write_image(np.zeros((4, 4, 3), np.uint8), path)
    with pytest.raises(InputError, match="must be an 8-bit L PNG, this has 8 bits and colour type 2"):
        read_mask(path)
    write_image(np.zeros((4, 4), np.uint8), path)
    with pytest.raises(InputError, match="must be an 8-bit RGB PNG"):
        read_image(path)
    Image.new("P", (4, 4)).save(path)
    with pytest.raises(InputError, match="must be an 8-bit L PNG"):
        read_mask(path)
    path.write_bytes(jpeg_bytes(np.zeros((4, 4, 3), np.uint8)))
    with pytest.raises(InputError, match="not a PNG"):
        read_image(path)


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_what_is_no_image_is_one_clear_line(tmp_path: Path, read: Any) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("empty.png", "text.png", "folder.png", "missing.png", "text.png/below.png", "pipe.png"):
        with pytest.raises(InputError) as caught:
            read(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(caught.value)


def test_a_truncated_artefact_is_never_read_as_a_grey_one(tmp_path: Path) -> None:
    data = png_bytes(np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8))
    path = tmp_path / "cut.png"
    for left in range(0, len(data), 37):
        path.write_bytes(data[:left])
        with pytest.raises(InputError):
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
