"""Reads a finished dataset: sample after sample in tar order, or any sample by its row.

Nothing in it is trusted: the index is typed, tars hold plain files with flat names in the order that the format says,
pictures are looked at before they are decoded.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segkit.errors import DatasetError
from segkit.files import open_regular
from segkit.index import INDEX_FILE, Index, SampleEntry, ShardEntry, read_index, read_index_head
from segkit.metadata import MEMBERS, ORIGINAL_MEMBERS, is_key, read_metadata
from segkit.stored import decode_jpeg, decode_png
from segkit.ustar import BLOCK, read_members, walk_members

_BYTES_OF_MEMBER = 2 * BLOCK  # the least that a member with any content takes in a tar


@dataclasses.dataclass(frozen=True, slots=True)
class StoredSample:
    """One sample as a shard holds it."""

    key: str
    image: np.ndarray  # (H, W, 3) uint8 RGB, after JPEG
    mask: np.ndarray  # (H, W) uint8 ids, 255 = ignore, 254 = out of distribution
    confidence: np.ndarray  # (H, W) uint8, 0..255 for 0..1
    meta: dict[str, Any]  # the fields of its JSON, segkit.metadata.FIELDS and perhaps more
    encoded: tuple[bytes, ...]  # the members' own bytes, in the order of the index's `members`
    original: tuple[np.ndarray, np.ndarray] | None = None  # picture and mask that this one was made from


class Dataset:
    """A finished dataset folder. Holds the index in memory and one sample at a time.

    Raises DatasetError for a missing or malformed index; iterating raises it for a shard that is damaged, that is not
    what the index says, or that holds what no shard may (links, folders, absurd sizes). It does not hash the files:
    `synthgen verify` does.
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
        """The samples of one split, or of all. Raises DatasetError that lists the splits if there is none of that
        name."""
        splits = [entry.name for entry in self.index.splits]
        if split is not None and split not in splits:
            raise DatasetError(f"{self.folder}: no split {split!r}; there are: {', '.join(splits)}")
        for number, shard in enumerate(self.index.shards):
            if split in (None, shard.split):
                yield from self.shard_samples(number)

    def shard_samples(self, number: int) -> Iterator[StoredSample]:
        """The samples of one shard, by its place in `index.shards`."""
        path, fields = self.folder / self.index.shards[number].file, self.index.members
        with open_regular(path, DatasetError) as file:
            try:
                members = read_members(file, str(path))
                for row in self._rows[number]:
                    group = [next(members, None) for _ in fields]
                    names = [member.name if member else "nothing" for member in group]
                    _require_members(row.key, names, fields, str(path))
                    contents = {f: member.data for f, member in zip(fields, group, strict=True) if member}
                    yield decode_sample(row.key, contents, str(path), more=self.index.version > 1)
                extra = next(members, None)
            except OSError as error:
                raise DatasetError(
                    f"{path}: cannot be read ({error.strerror or error}); run `synthgen verify`"
                ) from error
        if extra is not None:
            raise DatasetError(f"{path}: member {extra.name!r} is not in the index")


class ShardRows:
    """One split of a finished dataset, any sample of it by its row. Holds where the samples lie, and no sample.

    Headers of a shard are walked when the first of its rows is asked for. It can be sent to other processes.
    """

    def __init__(self, folder: Path, split: str = "") -> None:
        """`split` empty = `validation` if the dataset has one, else `train`.

        Raises DatasetError for an index or a shard that cannot be used: a file that is missing or cut short is found
        now, not hours later.
        """
        head = read_index_head(folder)
        names = [entry.name for entry in head.splits if entry.num_samples]
        self.split = split or ("validation" if "validation" in names else "train")
        if self.split not in names:
            raise DatasetError(
                f"{folder}: no samples in split {self.split!r}; it has: {', '.join(names) or 'none at all'}"
            )
        self.folder = folder
        self.labels = head.label_space(str(folder / INDEX_FILE))
        self.members = head.members
        self.shards = tuple(shard for shard in head.shards if shard.split == self.split and shard.num_samples)
        self._more = head.version > 1
        self._starts = np.cumsum([0, *(shard.num_samples for shard in self.shards)])
        self._places: dict[int, np.ndarray] = {}
        for shard in self.shards:
            require_plausible_shard(folder, shard, len(self.members))

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def has_originals(self) -> bool:
        """Whether each sample comes with the picture and mask that it was made from."""
        return set(ORIGINAL_MEMBERS) <= set(self.members)

    def read(
        self, row: int, fields: Sequence[str] = ("jpg", "png"), most_bytes: int | None = None
    ) -> tuple[dict[str, bytes], str]:
        """The members' bytes of a row by field ("jpg", "png", "conf.png", "json", "orig.jpg", "orig.png"), the first
        `most_bytes` of each or all, and a name of the sample for error messages. Raises DatasetError."""
        path, places = self._locate(row)
        where = f"{path}: sample {row - int(self._starts[np.searchsorted(self._starts, row, side='right') - 1])}"
        contents = {}
        with open_regular(path, DatasetError) as file:
            try:
                for field in fields:
                    offset, size = places[self.members.index(field)].tolist()
                    file.seek(offset)
                    contents[field] = file.read(size if most_bytes is None else min(size, most_bytes))
            except OSError as error:
                raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error
        return contents, where

    def key(self, row: int) -> str:
        """The key of a row's sample, from the header of its first member. Raises DatasetError."""
        path, places = self._locate(row)
        with open_regular(path, DatasetError) as file:
            try:
                file.seek(int(places[0, 0]) - BLOCK)
                return file.read(100).partition(b".")[0].decode("ascii")
            except (OSError, UnicodeDecodeError) as error:
                raise DatasetError(f"{path}: cannot be read ({error})") from error

    def _locate(self, row: int) -> tuple[Path, np.ndarray]:
        """The tar of a row, and (number of members, 2) int64: where its members lie."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        path = self.folder / self.shards[number].file
        if number not in self._places:
            self._places[number] = _walk(path, self.shards[number].num_samples, self.members)
        return path, self._places[number][row - int(self._starts[number])]

    def read_sample(self, row: int) -> StoredSample:
        """The whole sample of a row, decoded. Raises DatasetError."""
        contents, where = self.read(row, self.members)
        return decode_sample("", contents, where, self._more)


def decode_sample(key: str, contents: dict[str, bytes], where: str, more: bool) -> StoredSample:
    """A sample of its members' bytes by field; `more` as `read_metadata` takes it, `key` "" = the JSON's own.

    Raises DatasetError for what cannot be decoded and for sizes that differ.
    """
    here = f"{where}: {key}" if key else where
    image = decode_jpeg(contents["jpg"], f"{here}.jpg", DatasetError)
    mask = decode_png(contents["png"], f"{here}.png", DatasetError)
    confidence = decode_png(contents["conf.png"], f"{here}.conf.png", DatasetError)
    meta = read_metadata(contents["json"], f"{here}.json", more)
    sizes = [image.shape[:2], mask.shape, confidence.shape]
    original = None
    if ORIGINAL_MEMBERS[0] in contents:
        original = (
            decode_jpeg(contents["orig.jpg"], f"{here}.orig.jpg", DatasetError),
            decode_png(contents["orig.png"], f"{here}.orig.png", DatasetError),
        )
        sizes += [original[0].shape[:2], original[1].shape]
    if len(set(sizes)) != 1:
        listed = ", ".join(f"{height} x {width}" for height, width in sizes)
        raise DatasetError(f"{here}: image, mask, confidence and original differ in size: {listed}")
    return StoredSample(key or meta["key"], image, mask, confidence, meta, tuple(contents.values()), original)


def require_plausible_shard(folder: Path, shard: ShardEntry, num_members: int = len(MEMBERS)) -> None:
    """Raise DatasetError unless the shard is a regular file of the size that the index says, and that may hold so many
    samples; reads no byte of it."""
    path = folder / shard.file
    if not path.exists():
        raise DatasetError(f"{path}: the index lists this shard, but the file is missing: copy the dataset again")
    with open_regular(path, DatasetError) as file:
        size = file.seek(0, 2)
    if size != shard.num_bytes:
        raise DatasetError(
            f"{path}: {size} bytes, the index says {shard.num_bytes}: truncated or replaced, copy the dataset again"
        )
    if shard.num_samples * num_members * _BYTES_OF_MEMBER > size:
        raise DatasetError(f"{path}: {size} bytes cannot hold {shard.num_samples} samples, as the index says")


def require_same_bytes(path: Path, sha256: str) -> None:
    """Raise DatasetError unless a file has this checksum: bits flip on disks and in copies, and a JPEG hides it."""
    with open_regular(path, DatasetError) as file:
        try:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error
    if found != sha256:
        raise DatasetError(f"{path}: is damaged: its sha256 is {found}, must be {sha256}; copy or make it again")


def _walk(path: Path, num_samples: int, fields: tuple[str, ...]) -> np.ndarray:
    """(num_samples, number of members, 2) int64: offset and size of each member. Reads headers only."""
    places: list[tuple[int, int]] = []
    last = ""
    with open_regular(path, DatasetError) as file:
        try:
            group: list[str] = []
            for member in walk_members(file, str(path)):
                group.append(member.name)
                places.append((member.offset, member.size))
                if len(group) == len(fields):
                    key = group[0].partition(".")[0]
                    _require_members(key, group, fields, str(path))
                    if key <= last:
                        raise DatasetError(f"{path}: sample {key!r} comes after {last!r}: keys ascend and are unique")
                    last, group = key, []
                    if len(places) > num_samples * len(fields):
                        break
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error
    if group or len(places) != num_samples * len(fields):
        raise DatasetError(
            f"{path}: {len(places)} members, the index says {num_samples} samples of {len(fields)}: the shard does not "
            "belong to this index"
        )
    return np.array(places, dtype=np.int64).reshape(num_samples, len(fields), 2)


def _require_members(key: str, names: Sequence[str], fields: tuple[str, ...], where: str) -> None:
    if not is_key(key) or list(names) != [f"{key}.{field}" for field in fields]:
        raise DatasetError(
            f"{where}: expected the {len(fields)} members of sample {key!r}, there are: {', '.join(names)}"
        )
