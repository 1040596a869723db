"""HEIC photographs of telephones: upright, of 8 bits, through the one opener; without the extra one line."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from doubles.png_writer import png
from PIL import Image

from segkit.errors import InputError, UserError
from segkit.folders import list_pairs
from segkit.headers import container
from segkit.labels import Label, LabelSpace
from segkit.pictures import decode_image, image_size, read_image, read_pair

SPACE = LabelSpace("toy", (Label(0, "ground", (0, 0, 0)), Label(1, "cat", (200, 10, 10))), 0)
UPRIGHT = np.zeros((96, 160, 3), np.uint8)
UPRIGHT[:48, :64] = (250, 20, 20)
UPRIGHT[48:, 96:] = (20, 20, 250)
STORED = {  # EXIF orientation -> how a camera stores what should look as UPRIGHT
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: np.rot90(UPRIGHT, 1),
    8: np.rot90(UPRIGHT, -1),
}


def heic(image: Image.Image, orientation: int = 1) -> bytes:
    """As a telephone writes it: EXIF says how the camera was held, and so do the properties irot and imir."""
    pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed (extra heic)")
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = pillow_heif.from_pillow(image)
    file.info["exif"] = exif.tobytes()
    buffer = io.BytesIO()
    file.save(buffer, quality=95, chroma=444)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("name", ["IMG_0001.HEIC", "photo.jpg"])
def test_a_telephone_photograph_lies_upright(tmp_path: Path, orientation: int, name: str) -> None:
    data = heic(Image.fromarray(np.ascontiguousarray(STORED[orientation])), orientation)
    (tmp_path / name).write_bytes(data)
    image = read_image(tmp_path / name)
    assert image.dtype == np.uint8 and image_size(tmp_path / name) == image.shape[:2] == UPRIGHT.shape[:2]
    assert np.abs(image.astype(int) - UPRIGHT).max() < 12


def test_it_pairs_with_a_mask_and_a_turned_mask_is_told_of_exif(tmp_path: Path) -> None:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    stored = Image.fromarray(np.ascontiguousarray(STORED[6]))
    (tmp_path / "images" / "a.heic").write_bytes(heic(stored, 6))
    mask = np.zeros((96, 160), int)
    mask[:48, :64] = 1
    (tmp_path / "labels" / "a.png").write_bytes(png(mask))
    (pair,) = list_pairs(tmp_path)
    pixels, ids = read_pair(pair.image, pair.mask, SPACE)
    assert (pixels[ids == 1][:, 0] > 200).all()
    (tmp_path / "labels" / "a.png").write_bytes(png(np.ascontiguousarray(np.rot90(mask, 1))))
    with pytest.raises(InputError, match=r"is 160 x 96 px \(H x W\), its image 96 x 160; .*EXIF orientation \(6\)"):
        read_pair(pair.image, pair.mask, SPACE)


def test_grey_is_read_and_what_hides_or_would_be_cut_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    grey = decode_image(heic(Image.fromarray(np.full((64, 64), 90, np.uint8))), "photo")
    assert grey.shape == (64, 64, 3) and abs(int(grey.mean()) - 90) < 3
    with pytest.raises(InputError, match="photo: has an alpha channel"):
        decode_image(heic(Image.fromarray(np.full((64, 64, 4), 90, np.uint8))), "photo")
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    deep = pillow_heif.from_bytes("RGB;16", (64, 64), np.full((64, 64, 3), 30000, np.uint16).tobytes())
    deep.save(buffer)
    with pytest.raises(InputError, match=r"photo: has more than 8 bits a channel"):
        decode_image(buffer.getvalue(), "photo")


def test_damage_is_one_line() -> None:
    whole = heic(Image.fromarray(UPRIGHT))
    rng = np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(whole)
        data[int(rng.integers(min(len(data), 500)))] = int(rng.integers(256))
        try:
            decode_image(bytes(data[: int(rng.integers(30, len(data) + 1))]), "photo")
        except UserError as error:
            assert str(error).startswith("photo: ") and "\n" not in str(error)


def test_without_the_extra_one_line_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for read in (read_image, image_size):
        with pytest.raises(InputError) as caught:
            read(path)
        assert str(caught.value) == (
            f"{path}: HEIC needs pillow-heif: pip install 'synthgen-seg[heic]', or save the pictures as JPEG"
        )


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0mif1miafavif", "AVIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "no picture"),
    ],
)
def test_brands_tell_heic_from_avif_and_film(data: bytes, kind: str) -> None:
    assert container(data) == kind
