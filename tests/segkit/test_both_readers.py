"""The labelled folders that people bring, through the readers of both packages: the same pixels, or the same line."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles.png_writer import png
from PIL import Image

import synthgen.labels
from segkit.errors import UserError
from segtrain.data.folders import FolderSource
from synthgen.sources.folder import list_labelled, read_labelled

LABELS = """name: harbour
background: 0
labels:
- {id: 0, name: water, colour: [0, 0, 0]}
- {id: 1, name: pier, colour: [200, 40, 10]}
- {id: 3, name: buoy, colour: [250, 220, 0]}
"""
COLOURS = [[0, 0, 0], [200, 40, 10], [9, 9, 9], [250, 220, 0]]
MASK = np.zeros((20, 30), np.uint8)
MASK[3:11, 2:12], MASK[12:18, 20:28], MASK[18:] = 1, 3, 255
INDEX_OF = {0: 2, 1: 0, 3: 3, 255: 1}  # how an optimiser sorts the palette anew
PICTURE = np.full((20, 30, 3), 90, np.uint8)
PICTURE[MASK == 1], PICTURE[MASK == 3] = (210, 60, 60), (60, 60, 210)

Labelled = Iterator[tuple[np.ndarray, np.ndarray]]
Read = Callable[[Path], Labelled]


def by_synthgen(folder: Path) -> Labelled:
    space = synthgen.labels.read_label_space(str(folder / "labels.yaml"))
    for pair in list_labelled(folder):
        yield read_labelled(pair, space)


def by_segtrain(folder: Path) -> Labelled:
    source = FolderSource(folder, None)
    for row in range(sum(source.group_sizes)):
        sample = source.read(row)
        assert np.array_equal(source.read_mask(row), sample.mask)
        yield sample.image, sample.mask


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def coloured(mask: np.ndarray, void: tuple[int, int, int] = (224, 224, 192)) -> np.ndarray:
    table = np.zeros((256, 3), np.uint8)
    table[: len(COLOURS)], table[255] = COLOURS, void
    return table[mask]


def turned_picture() -> bytes:
    """As a camera that was held upright stores it: EXIF orientation 6."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(Image.fromarray(np.rot90(PICTURE).copy()), "JPEG", exif=exif, quality=100, subsampling=0)


def write(folder: Path, mask: bytes, picture: bytes | None = None, name: str = "m.png", labels: str = LABELS) -> Path:
    for part in ("images", "labels"):
        (folder / part).mkdir()
    (folder / "images" / "m.jpg").write_bytes(picture or saved(Image.fromarray(PICTURE), "JPEG", quality=100))
    (folder / "labels" / name).write_bytes(mask)
    (folder / "labels.yaml").write_text(labels, encoding="utf-8")
    return folder


RE_SORTED = np.vectorize(INDEX_OF.get)(MASK)
SORTED_PALETTE = [[200, 40, 10], [224, 224, 192], [0, 0, 0], [250, 220, 0]]
PLAIN = np.where(MASK == 255, 0, MASK)
READ = {
    "grey of 8 bits": (png(MASK), MASK),
    "grey of 16 bits": (png(MASK, 16), MASK),
    "grey of 4 bits": (png(PLAIN, 4), PLAIN),
    "grey of 2 bits": (png(PLAIN, 2), PLAIN),
    "grey of 1 bit": (png(PLAIN == 1, 1), (PLAIN == 1).astype(np.uint8)),
    "interlaced": (png(MASK, interlaced=True), MASK),
    "two megabytes of text": (png(MASK, before=[(b"tEXt", b"Comment\0" + b"x" * 2**21)]), MASK),
    "palette": (png(PLAIN, 2, 3, COLOURS), PLAIN),
    "palette with transparency": (png(PLAIN, 2, 3, COLOURS, [(b"tRNS", b"\0")]), PLAIN),
    "palette sorted anew": (png(RE_SORTED, 2, 3, SORTED_PALETTE), MASK),
    "colours": (png(coloured(MASK), 8, 2), MASK),
}
REFUSED = {
    "grey with alpha": (saved(Image.fromarray(MASK).convert("LA")), "this is an LA image"),
    "colours with alpha": (saved(Image.fromarray(coloured(MASK)).convert("RGBA")), "this is an RGBA image"),
    "an id beyond 255": (png(MASK.astype(int) + 300, 16), "id 555 does not fit 8 bits"),
    "an id of no class": (png(PLAIN + 1), "ids 2, 4 are not in label space 'harbour'"),
    "a colour of no class": (png(coloured(MASK, (7, 8, 9)), 8, 2), r"colours [7, 8, 9] (60 px) are not in label space"),
    "a smoothed edge": (
        saved(Image.fromarray(coloured(MASK)).resize((15, 10), Image.Resampling.BILINEAR).resize((30, 20))),
        "are not in label space 'harbour'",
    ),
    "JPEG inside": (saved(Image.fromarray(MASK), "JPEG"), "is JPEG inside"),
    "another size": (png(MASK[:, ::2]), "is 20 x 15 px (H x W), its image 20 x 30"),
    "on its side": (png(MASK.T), "one of the two lies on its side"),
}


@pytest.mark.parametrize("read", [by_synthgen, by_segtrain])
@pytest.mark.parametrize("kind", READ)
def test_masks_are_read_to_the_pixel(tmp_path: Path, kind: str, read: Read) -> None:
    data, truth = READ[kind]
    ((image, mask),) = read(write(tmp_path, data))
    assert mask.dtype == np.uint8 and np.array_equal(mask, truth)
    assert image.shape == (*truth.shape, 3) and np.abs(image.astype(int) - PICTURE).mean() < 8


@pytest.mark.parametrize("read", [by_synthgen, by_segtrain])
def test_a_turned_picture_lies_as_its_mask(tmp_path: Path, read: Read) -> None:
    ((image, mask),) = read(write(tmp_path, png(MASK), turned_picture()))
    assert np.array_equal(mask, MASK) and np.abs(image.astype(int) - PICTURE).mean() < 8


@pytest.mark.parametrize("read", [by_synthgen, by_segtrain])
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, kind: str, read: Read) -> None:
    data, says = REFUSED[kind]
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        list(read(write(tmp_path, data)))
    assert str(caught.value).startswith(str(tmp_path / "labels" / "m.png")) and "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [by_synthgen, by_segtrain])
@pytest.mark.parametrize(
    ("name", "labels", "says"),
    [
        ("m_mask.png", LABELS, "there is labels/m_mask.png: both must have the same name"),
        ("M.png", LABELS, "upper and lower case must be the same"),
        ("m.tif", LABELS, "there is labels/m.tif: a mask must be a PNG"),
        ("m.png", LABELS.replace("name: pier", "name: yes"), "in quotes"),
        ("m.png", LABELS.replace("name: pier", "name: water"), "occurs twice"),
    ],
)
def test_names_that_do_not_fit_are_one_line(tmp_path: Path, name: str, labels: str, says: str, read: Read) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        list(read(write(tmp_path, png(MASK), name=name, labels=labels)))
