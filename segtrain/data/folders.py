"""Labelled images as files, one image and one mask a sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segkit.labels import LabelSpace, read_label_space
from segtrain.data.sample import Sample
from segtrain.data.source import identity_of
from segtrain.errors import DataError
from segtrain.pictures import decode_mask, decode_pair

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


class PairSource:
    """Pairs of an image file and a mask file (8-bit PNG of ids, L or palette), in the order given.

    `kind` names the layout in the identity.
    """

    def __init__(
        self, path: Path, split: str, label_space: LabelSpace, pairs: Sequence[tuple[Path, Path]], kind: str
    ) -> None:
        self.path, self.split, self.label_space = path, split, label_space
        self._pairs, self._kind = tuple(pairs), kind

    @property
    def group_sizes(self) -> tuple[int, ...]:
        return (len(self._pairs),)

    @property
    def identity(self) -> dict[str, Any]:
        # Names and sizes: the bytes of a large folder would take minutes at each start.
        files = [[image.name, image.stat().st_size, mask.stat().st_size] for image, mask in self._pairs]
        return identity_of(self._kind, self.label_space.name, self.split, files)

    def read(self, row: int, *, confidence: bool = False, original: bool = False) -> Sample:
        """A folder holds neither confidences nor originals: they are None."""
        image_path, mask_path = self._pairs[row]
        image, mask = decode_pair(_bytes(image_path), _bytes(mask_path), str(image_path))
        return Sample(image, mask, image_path.stem, str(image_path))

    def read_mask(self, row: int) -> np.ndarray:
        image_path, mask_path = self._pairs[row]
        return decode_mask(_bytes(mask_path), str(image_path))

    def name(self, row: int) -> str:
        return self._pairs[row][0].name


class FolderSource(PairSource):
    """`images/` (JPEG or PNG) and `labels/` (8-bit PNG of ids, same stem); `labels.yaml` names the classes."""

    def __init__(self, folder: Path, label_space: LabelSpace | None) -> None:
        """`label_space` serves if there is no `labels.yaml`.

        Raises DataError if there is neither, or if the stems do not match.
        """
        if (folder / "labels.yaml").is_file():
            label_space = read_label_space(folder / "labels.yaml")
        if label_space is None:
            raise DataError(
                f"{folder}: no labels.yaml beside images/ and no sharded dataset to take the classes from: "
                "add one with name and labels: [{id, name, colour}]"
            )
        images = files_by_stem(folder / "images", IMAGE_SUFFIXES)
        labels = files_by_stem(folder / "labels", (".png",))
        if not images:
            raise DataError(f"{folder / 'images'}: no images ({', '.join(IMAGE_SUFFIXES)})")
        for files, partners, other in ((images, labels, "labels"), (labels, images, "images")):
            alone = sorted(set(files) - set(partners))
            if alone:
                raise DataError(
                    f"{files[alone[0]]}: no file {alone[0]}.* in {folder / other} ({len(alone)} such in all): "
                    "each image needs its mask"
                )
        super().__init__(
            folder, "all", label_space, [(images[stem], labels[stem]) for stem in sorted(images)], "folder"
        )


def files_by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Visible files with one of the suffixes. Raises DataError if two have the same stem."""
    by_stem: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in by_stem:
            raise DataError(f"{folder}: both {by_stem[path.stem].name} and {path.name}: a stem may occur only once")
        by_stem[path.stem] = path
    return by_stem


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
