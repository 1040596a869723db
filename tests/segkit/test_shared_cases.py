"""The review's small labelled folders of the kinds that people bring, each with its truth: read pixel by pixel, or one
line. They lie beside the checkout; without them this file says so and is skipped."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import synthgen.labels
from segkit.errors import UserError
from segkit.folders import list_pairs
from segkit.labels import read_label_space
from segkit.pictures import read_pair
from synthgen.sources.folder import list_labelled, read_labelled

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
READ = {
    "exif-6-portrait": 3,
    "exif-6-square": 3,
    "image-cmyk": 3,
    "image-upper-ext": 3,
    "image-webp-tif": 3,
    "mask-16bit-ok": 3,
    "mask-cvat-rgb": 3,
    "mask-gray-4bit-cityscapes": 3,
    "mask-interlaced": 3,
    "mask-palette-reordered": 3,
    "mask-palette-trns": 3,
}
REFUSED = {
    "image-16bit-gray": "more than 8 bits a channel",
    "labels-yaml-words": "in quotes",
    "mask-16bit-over": "id 514 does not fit 8 bits",
    "mask-antialias": "ids 1, 3, 4, 5, 6, 7, 8, 9 are not in label space",
    "mask-jpeg": "there is labels/s0.jpg: a mask must be a PNG",
    "mask-jpeg-named-png": "is JPEG inside",
    "mask-la": "this is an LA image",
    "mask-off-by-one": "ids 3 are not in label space",
    "mask-rgba": "this is an RGBA image",
    "mask-suffix": "there is labels/s0_mask.png",
    "name-case": "upper and lower case must be the same",
    "name-subfolders": "there is a/s0.jpg, but subfolders are not read",
    "name-two-ext": "the stem 's0' is taken by s0.jpeg",
    "one-sided-label": "has no partner labels/s1.png",
}


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    make = CASES / request.param / "make.py"
    if not make.is_file():
        pytest.skip(f"{make} is not there: the cases lie beside the checkout")
    subprocess.run([sys.executable, str(make), str(tmp_path)], check=True, capture_output=True)
    return tmp_path


Labelled = Iterator[tuple[str, np.ndarray, np.ndarray]]


def by_segkit(folder: Path) -> Labelled:
    space = read_label_space(folder / "labels.yaml")
    for pair in list_pairs(folder):
        yield (pair.stem, *read_pair(pair.image, pair.mask, space))


def by_synthgen(folder: Path) -> Labelled:
    space = synthgen.labels.read_label_space(str(folder / "labels.yaml"))
    for pair in list_labelled(folder):
        yield (pair.stem, *read_labelled(pair, space))


READERS = [by_segkit, by_synthgen]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(("folder", "count"), READ.items(), indirect=["folder"])
def test_masks_equal_the_truth_pixel_by_pixel(folder: Path, count: int, read: Callable[[Path], Labelled]) -> None:
    truth = np.load(folder / "truth.npz")
    samples = list(read(folder))
    assert len(samples) == count
    for stem, image, mask in samples:
        assert np.array_equal(mask, truth[stem])
        assert image.shape == (*mask.shape, 3)
        crane = image[mask == 1].mean(axis=0) - image[mask == 0].mean(axis=0)
        assert np.abs(crane).max() > 20, "picture and mask lie the same way"


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(("folder", "says"), REFUSED.items(), indirect=["folder"])
def test_what_cannot_be_read_is_one_line_with_the_file(
    folder: Path, says: str, read: Callable[[Path], Labelled]
) -> None:
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        list(read(folder))
    assert str(caught.value).startswith(str(folder)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["exif", "mask", "image", "labels", "name"])
def test_no_case_is_forgotten(kind: str) -> None:
    if not CASES.is_dir():
        pytest.skip(f"{CASES} is not there: the cases lie beside the checkout")
    names = {path.name for path in CASES.glob(f"{kind}-*")}
    assert names <= {*READ, *REFUSED, "mask-binary-255"}
