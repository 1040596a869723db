"""Pictures without labels: a folder of photographs, or a finished dataset or labelled folder whose masks are not read.

Each is a `Source` like any other whose every pixel is unlabelled (255), so the rules of mixing, order and resume hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from segkit.folders import files_by_stem, warn_of_subfolders
from segkit.headers import find_jpeg_header
from segkit.labels import IGNORE, LabelSpace
from segkit.pictures import IMAGE_SUFFIXES, image_size, read_image
from segkit.printable import excerpt
from segkit.shards import ShardRows
from segkit.stored import decode_jpeg
from segtrain.data.formats import open_dataset
from segtrain.data.sample import Sample
from segtrain.data.source import IS_URL, Source, identity_of
from segtrain.errors import DataError

_LEAST_SHARE_OF_CROP = 0.5
_HEAD_BYTES = 2**16  # of a JPEG: what stands before its size is mostly less


def open_unlabelled(path: str, label_space: LabelSpace, crop_px: int) -> Source:
    """A finished dataset (`index.json`; split `train`), the `images/` of a labelled folder, or a folder of pictures.

    `label_space` is that of the training. Raises DataError for a folder that holds no picture, and for one with a
    picture that is less than half as wide or as high as a crop of `crop_px`.
    """
    if IS_URL.match(path):
        raise DataError(f"unlabelled {path}: only local folders are read, no URLs and no pipes: download it first")
    folder = Path(path)
    if (folder / "index.json").is_file():
        return UnlabelledShards(folder, label_space, crop_px)
    images = folder / "images"
    return UnlabelledFolder(images if images.is_dir() else folder, label_space, crop_px)


def open_with_masks(path: str, label_space: LabelSpace, crop_px: int) -> Source:
    """Like `open_unlabelled`, but a dataset or a labelled folder keeps its masks, which may be wrong.

    Raises DataError, also for masks of classes that the training does not have.
    """
    folder = Path(path)
    if not (folder / "index.json").is_file() and not (folder / "labels").is_dir():
        return open_unlabelled(path, label_space, crop_px)
    source = open_dataset(path, "train", label_space)
    source.label_space.require_within(label_space, path)
    require_room(source.read(0).image.shape, crop_px, path)
    return source


class UnlabelledFolder:
    """The pictures that lie in a folder, by stem."""

    split = "all"

    def __init__(self, folder: Path, label_space: LabelSpace, crop_px: int) -> None:
        """Reads the headers of the pictures. Raises DataError."""
        self.path, self.label_space = folder, label_space
        if not folder.is_dir():
            raise DataError(f"unlabelled {excerpt(str(folder))}: no such folder")
        files = files_by_stem(folder, IMAGE_SUFFIXES, "a folder of photographs")
        self._files = [files[stem] for stem in sorted(files)]
        if not self._files:
            nested = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in IMAGE_SUFFIXES)
            there = f" (there is {nested[0].relative_to(folder)}, but subfolders are not read)" if nested else ""
            raise DataError(
                f"unlabelled {folder}: no picture in it; known kinds are {', '.join(IMAGE_SUFFIXES)}{there}"
            )
        warn_of_subfolders(folder)
        for file in self._files:
            require_room(image_size(file), crop_px, str(file))

    @property
    def group_sizes(self) -> tuple[int, ...]:
        return (len(self._files),)

    @property
    def identity(self) -> dict[str, Any]:
        # The bytes of a large folder would take minutes at each start.
        content = [[file.name, file.stat().st_size] for file in self._files]
        return identity_of("unlabelled folder", "", self.split, content)

    def read(self, row: int, *, confidence: bool = False, original: bool = False) -> Sample:
        image = read_image(self._files[row])
        return Sample(image, _unknown(image), self._files[row].stem, str(self._files[row]))

    def read_mask(self, row: int) -> np.ndarray:
        return np.full(image_size(self._files[row]), IGNORE, np.uint8)

    def name(self, row: int) -> str:
        return self._files[row].name

    def domain(self, row: int) -> str:
        return ""


class UnlabelledShards:
    """The pictures of a finished dataset's split `train`; its masks and its classes play no part."""

    split = "train"

    def __init__(self, folder: Path, label_space: LabelSpace, crop_px: int) -> None:
        """Decodes the first picture and reads the headers of all. Raises DataError."""
        self._rows, self._crop_px = ShardRows(folder, self.split), crop_px
        self.path, self.label_space = folder, label_space
        self.read(0)
        for row in range(len(self._rows)):  # now, and not hours later
            data, where = self._rows.read(row, ["jpg"], _HEAD_BYTES)
            header = find_jpeg_header(data["jpg"])
            if header is None:
                self.read(row)
            else:
                require_room(header.size, crop_px, where)

    @property
    def group_sizes(self) -> tuple[int, ...]:
        return tuple(shard.num_samples for shard in self._rows.shards)

    @property
    def identity(self) -> dict[str, Any]:
        return identity_of("unlabelled shards", "", self.split, [shard.sha256 for shard in self._rows.shards])

    def read(self, row: int, *, confidence: bool = False, original: bool = False) -> Sample:
        data, where = self._rows.read(row, ["jpg"])
        image = decode_jpeg(data["jpg"], f"image of {where}", DataError)
        require_room(image.shape, self._crop_px, where)
        return Sample(image, _unknown(image), self.name(row), where)

    def read_mask(self, row: int) -> np.ndarray:
        return self.read(row).mask

    def name(self, row: int) -> str:
        return self._rows.key(row)

    def domain(self, row: int) -> str:
        return ""


def require_room(size: tuple[int, ...], crop_px: int, where: str) -> None:
    """Raise DataError if less than half of a crop's side fits into a picture of that size (H, W, ...)."""
    if min(size[:2]) < _LEAST_SHARE_OF_CROP * crop_px:
        raise DataError(
            f"unlabelled {where}: is {size[1]} x {size[0]} px, most of a crop of {crop_px} px would be padding: lower "
            "--crop, or use larger pictures"
        )


def _unknown(image: np.ndarray) -> np.ndarray:
    return np.full(image.shape[:2], IGNORE, np.uint8)
