"""Labelled images as files, one image and one mask a sample."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segkit.files import read_regular
from segkit.folders import Pair, list_pairs, normal_name
from segkit.labels import LabelSpace, read_label_space
from segkit.masks import MAX_FILE_BYTES, read_mask
from segkit.pictures import read_pair, require_pair
from segtrain.data.domains import read_domains
from segtrain.data.sample import Sample
from segtrain.data.source import digest_of, identity_of
from segtrain.errors import DataError

ORIGINAL_PARTS = ("orig_images", "orig_labels")
"""Subfolders of a folder of pairs."""


class PairSource:
    """Pairs of an image file and a mask file, in the order given, as `segkit.pictures` reads them.

    `kind` names the layout in the identity.
    """

    def __init__(self, path: Path, split: str, label_space: LabelSpace, pairs: Sequence[Pair], kind: str) -> None:
        self.path, self.split, self.label_space = path, split, label_space
        self._pairs, self._kind = tuple(pairs), kind

    @property
    def group_sizes(self) -> tuple[int, ...]:
        return (len(self._pairs),)

    @property
    def identity(self) -> dict[str, Any]:
        return identity_of(self._kind, self.label_space.name, self.split, _names_and_sizes(self._pairs))

    def require_readable(self) -> None:
        """Look at the headers of all files. Raises DataError for the first that is not read here, or whose size is
        another than its partner's."""
        for pair in self._pairs:
            require_pair(pair.image, pair.mask)

    def read(self, row: int, *, confidence: bool = False, original: bool = False) -> Sample:
        """A folder holds no confidences: they are None."""
        pair = self._pairs[row]
        image, mask = read_pair(pair.image, pair.mask, self.label_space)
        return Sample(image, mask, pair.stem, str(pair.image))

    def read_mask(self, row: int) -> np.ndarray:
        return read_mask(self._pairs[row].mask, self.label_space)

    def name(self, row: int) -> str:
        return self._pairs[row].image.name

    def domain(self, row: int) -> str:
        return self._domains.get(normal_name(self._pairs[row].stem), "")

    @functools.cached_property
    def _domains(self) -> dict[str, str]:
        return read_domains(self.path)


class FolderSource(PairSource):
    """`images/` and `labels/` with the same stems (`segkit.folders`); `labels.yaml` names the classes.

    `orig_images/` and `orig_labels/` of the same stems hold what each image was made from, if it is a folder of pairs.
    """

    def __init__(self, folder: Path, label_space: LabelSpace | None) -> None:
        """`label_space` serves if there is no `labels.yaml`.

        Raises DataError if there is neither, or if the stems do not match, those of the originals too.
        """
        if (folder / "labels.yaml").is_file():
            label_space = read_label_space(folder / "labels.yaml")
        if label_space is None:
            raise DataError(
                f"{folder}: no labels.yaml beside images/ and no sharded dataset to take the classes from: "
                "add one with name and labels: [{id, name, colour}], or name one elsewhere with --classes"
            )
        super().__init__(folder, "all", label_space, list_pairs(folder), "folder")
        self._originals: list[Pair] = []
        if (folder / ORIGINAL_PARTS[0]).is_dir():
            self._originals = list_pairs(folder, ORIGINAL_PARTS)
            stems, theirs = ({normal_name(pair.stem) for pair in pairs} for pairs in (self._pairs, self._originals))
            if stems != theirs:
                raise DataError(
                    f"{folder}: {min(stems ^ theirs)} is only in one of images/ and {ORIGINAL_PARTS[0]}/: a folder of "
                    "pairs has the original of every image under the same stem"
                )

    @property
    def has_originals(self) -> bool:
        return bool(self._originals)

    @property
    def identity(self) -> dict[str, Any]:
        own = super().identity
        return {**own, "originals": _names_and_sizes(self._originals)} if self._originals else own

    def require_readable(self) -> None:
        super().require_readable()
        for pair in self._originals:
            require_pair(pair.image, pair.mask)

    def original_digest(self, row: int) -> str:
        """Of the two files' bytes."""
        pair = self._originals[row]
        return digest_of(read_regular(path, MAX_FILE_BYTES) for path in (pair.image, pair.mask))

    def read(self, row: int, *, confidence: bool = False, original: bool = False) -> Sample:
        sample = super().read(row)
        if not original or not self._originals:
            return sample
        pair = self._originals[row]
        return dataclasses.replace(sample, original=read_pair(pair.image, pair.mask, self.label_space))


def _names_and_sizes(pairs: Sequence[Pair]) -> list[list[Any]]:
    # The bytes of a large folder would take minutes at each start.
    return [[pair.image.name, pair.image.stat().st_size, pair.mask.stat().st_size] for pair in pairs]
