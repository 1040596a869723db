"""Labelled images as files, one image and one mask a sample."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segkit.folders import Pair, list_pairs
from segkit.labels import LabelSpace, read_label_space
from segkit.masks import read_mask
from segkit.pictures import read_pair
from segtrain.data.domains import read_domains
from segtrain.data.sample import Sample
from segtrain.data.source import identity_of
from segtrain.errors import DataError


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
        # Names and sizes: the bytes of a large folder would take minutes at each start.
        files = [[pair.image.name, pair.image.stat().st_size, pair.mask.stat().st_size] for pair in self._pairs]
        return identity_of(self._kind, self.label_space.name, self.split, files)

    def read(self, row: int, *, confidence: bool = False, original: bool = False) -> Sample:
        """A folder holds neither confidences nor originals: they are None."""
        pair = self._pairs[row]
        image, mask = read_pair(pair.image, pair.mask, self.label_space)
        return Sample(image, mask, pair.stem, str(pair.image))

    def read_mask(self, row: int) -> np.ndarray:
        return read_mask(self._pairs[row].mask, self.label_space)

    def name(self, row: int) -> str:
        return self._pairs[row].image.name

    def domain(self, row: int) -> str:
        return self._domains.get(self._pairs[row].stem, "")

    @functools.cached_property
    def _domains(self) -> dict[str, str]:
        return read_domains(self.path)


class FolderSource(PairSource):
    """`images/` and `labels/` with the same stems (`segkit.folders`); `labels.yaml` names the classes."""

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
        super().__init__(folder, "all", label_space, list_pairs(folder), "folder")
