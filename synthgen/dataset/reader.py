"""Reads a finished dataset: the index, then samples one at a time in tar order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from synthgen.dataset.index import INDEX_FILE, Index, SampleEntry, read_index
from synthgen.dataset.metadata import MEMBERS, is_key, read_metadata
from synthgen.dataset.pictures import decode_jpeg, decode_png
from synthgen.dataset.ustar import read_members
from synthgen.errors import DatasetError


@dataclasses.dataclass(frozen=True, slots=True)
class StoredSample:
    """One sample as a shard holds it."""

    key: str
    image: np.ndarray  # (H, W, 3) uint8 RGB, after JPEG
    mask: np.ndarray  # (H, W) uint8 ids, 255 = ignore, 254 = out of distribution
    confidence: np.ndarray  # (H, W) uint8, 0..255 for 0..1
    meta: dict[str, Any]  # the fields of dataset.metadata.FIELDS
    encoded: tuple[bytes, bytes, bytes, bytes]  # the members' own bytes, in the order of dataset.metadata.MEMBERS


class Dataset:
    """A finished dataset folder. Holds the index in memory and one sample at a time.

    Raises DatasetError for a missing or malformed index; iterating raises it for a shard that is damaged,
    that is not what the index says, or that holds what no shard may (links, folders, absurd sizes). It does
    not hash the files: `verify` does.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index: Index = read_index(folder)
        self.labels = self.index.label_space(str(folder / INDEX_FILE))
        self._rows: list[list[SampleEntry]] = [[] for _ in self.index.shards]
        for row in self.index.samples:
            if row.shard >= len(self._rows):
                raise DatasetError(f"{folder}: sample {row.key!r} names shard {row.shard}, there are {len(self._rows)}")
            self._rows[row.shard].append(row)

    def __len__(self) -> int:
        return len(self.index.samples)

    def __iter__(self) -> Iterator[StoredSample]:
        return self.samples()

    def samples(self, split: str | None = None) -> Iterator[StoredSample]:
        """The samples of one split, or of all. Raises DatasetError that lists the splits if there is none of
        that name.
        """
        splits = [entry.name for entry in self.index.splits]
        if split is not None and split not in splits:
            raise DatasetError(f"{self.folder}: no split {split!r}; there are: {', '.join(splits)}")
        for number, shard in enumerate(self.index.shards):
            if split in (None, shard.split):
                yield from self.shard_samples(number)

    def shard_samples(self, number: int) -> Iterator[StoredSample]:
        """The samples of one shard, by its place in `index.shards`."""
        path = self.folder / self.index.shards[number].file
        rows = self._rows[number]
        try:
            with path.open("rb") as file:
                members = read_members(file, str(path))
                for row in rows:
                    yield _sample(row.key, [next(members, None) for _ in MEMBERS], path)
                extra = next(members, None)
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read ({error.strerror or error}); run `synthgen verify`") from error
        if extra is not None:
            raise DatasetError(f"{path}: member {extra.name!r} is not in the index")


def _sample(key: str, members: list[Any], path: Path) -> StoredSample:
    names = [member.name if member else "nothing" for member in members]
    if not is_key(key) or names != [f"{key}.{field}" for field in MEMBERS]:
        raise DatasetError(f"{path}: expected the {len(MEMBERS)} members of sample {key!r}, found: {', '.join(names)}")
    jpg, png, conf, meta = members
    image = decode_jpeg(jpg.data, f"{path}: {jpg.name}")
    mask = decode_png(png.data, f"{path}: {png.name}")
    confidence = decode_png(conf.data, f"{path}: {conf.name}")
    if not image.shape[:2] == mask.shape == confidence.shape:
        raise DatasetError(
            f"{path}: sample {key!r}: image {image.shape[:2]}, mask {mask.shape} and confidence "
            f"{confidence.shape} differ in size"
        )
    encoded = (jpg.data, png.data, conf.data, meta.data)
    return StoredSample(key, image, mask, confidence, read_metadata(meta.data, f"{path}: {meta.name}"), encoded)
