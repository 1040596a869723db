"""What is broken in one shard: its bytes, its tar structure, its samples."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from segkit.errors import DataError, DatasetError
from segkit.files import open_regular
from segkit.headers import jpeg_header
from segkit.index import Index, SampleEntry
from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION
from segkit.metadata import KEY_FORM, MEMBERS, ORIGINAL_MEMBERS, is_key, kinds_of, metadata_bytes, read_metadata
from segkit.stored import decode_jpeg, decode_png
from segkit.ustar import Member, read_members
from synthgen.dataset.verify_side_files import broken_in_table

Decoded = TypeVar("Decoded")


def broken_in_shard(
    folder: Path, index: Index, number: int, rows: list[SampleEntry], fields: dict[int, dict[str, Any]]
) -> Iterator[tuple[str, str]]:
    """(key, what) for everything that is wrong with shard `number`; key is "" where it is about no one
    sample. Reads the file once. `fields` is given name and type of its samples' fields, under its number.
    """
    shard = index.shards[number]
    by_key = {row.key: row for row in rows}
    stored: list[str] = []
    metadata: list[dict[str, Any]] = []
    try:
        with open_regular(folder / shard.file, DatasetError) as file:
            hashed = _HashedFile(file)
            try:
                for key, members in _grouped(read_members(hashed, "tar")):
                    stored.append(key)
                    yield from (
                        (key, what)
                        for what in _broken_in_sample(key, members, by_key.get(key), shard.split, index, metadata)
                    )
            except DatasetError as error:
                yield "", str(error)
            hashed.drain()
    except DatasetError as error:
        yield "", str(error).removeprefix(f"{folder / shard.file}: ").replace("no such file", "the file is missing")
        return
    except OSError as error:
        yield "", f"the file cannot be read ({error.strerror or error})"
        return
    if metadata:
        fields[number] = kinds_of(metadata[0])
    if hashed.num_bytes != shard.num_bytes:
        yield "", f"has {hashed.num_bytes} bytes, the index says {shard.num_bytes}"
    if hashed.sha256.hexdigest() != shard.sha256:
        yield "", f"sha256 is {hashed.sha256.hexdigest()}, the index says {shard.sha256}"
    yield from _broken_order(stored, [row.key for row in rows])
    if stored == [row.key for row in rows]:
        yield from broken_in_table(folder, shard.file, metadata, rows)


def differing_fields(some: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    """Names of fields that one of the two lacks, or has with another type."""
    return sorted({name for name, _ in some.items() ^ others.items()})


class _HashedFile:
    """Hashes what is read through it, so that a shard is read once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.num_bytes = 0

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        self.num_bytes += len(data)
        return data

    def drain(self) -> None:
        while self.read(2**20):
            pass


def _grouped(members: Iterator[Member]) -> Iterator[tuple[str, list[Member]]]:
    """Neighbours with the same text before the first dot, as webdataset groups them; at most one member too
    many is kept in memory.
    """
    for key, group in itertools.groupby(members, lambda member: member.name.partition(".")[0]):
        kept: list[Member] = []
        for member in group:
            if len(kept) <= len(MEMBERS + ORIGINAL_MEMBERS):
                kept.append(member)
        yield key, kept


def _broken_order(stored: list[str], listed: list[str]) -> Iterator[tuple[str, str]]:
    if stored == listed:
        return
    for key in sorted(set(listed) - set(stored)):
        yield key, "is in the index but not in the shard"
    for key in sorted(set(stored) - set(listed)):
        yield key, "is in the shard but not in the index"
    for key in sorted(key for key, count in Counter(stored).items() if count > 1):
        yield key, "its members do not lie side by side, or the key occurs twice"
    if sorted(stored) == sorted(listed):
        yield "", "the samples lie in another order than in the index"


def _broken_in_sample(
    key: str, members: list[Member], row: SampleEntry | None, split: str, index: Index, metadata: list[dict[str, Any]]
) -> Iterator[str]:
    if not is_key(key):
        yield f"a key must be {KEY_FORM}"
    fields = [member.name.partition(".")[2] for member in members]
    if fields != list(index.members):
        yield f"must have the members {', '.join(index.members)} in this order, it has: {', '.join(fields)}"
        return
    for member in members:
        if not member.canonical:
            yield f"{member.name}: tar header or padding is not canonical (USTAR, 0644, mtime, uid, gid 0)"
    jpg, png, conf, meta, *original = members
    problems: list[str] = []
    pictures = [_try(problems, decode_jpeg, member) for member in (jpg, *original[:1])]
    masks = [_try(problems, decode_png, member) for member in (png, *original[1:])]
    confidence = _try(problems, decode_png, conf)
    values = _try(problems, functools.partial(read_metadata, more=index.version > 1), meta)
    yield from problems
    for member, picture in zip((jpg, *original[:1]), pictures, strict=True):
        if picture is not None and len(set((header := jpeg_header(member.data, member.name)).subsampling)) != 1:
            yield f"{member.name}: must be JPEG 4:4:4, its sampling factors are {header.subsampling}"
    sizes = {picture.shape[:2] for picture in (*pictures, *masks, confidence) if picture is not None}
    if values is not None:
        metadata.append(values)
        if differing := differing_fields(kinds_of(metadata[0]), kinds_of(values)):
            yield (
                f"{meta.name}: every sample has the same fields, the first one and this differ in "
                f"{', '.join(differing)}"
            )
        if metadata_bytes(values) != meta.data:
            yield f"{meta.name}: is not canonical (sorted keys, floats with a fraction, UTF-8)"
        sizes.add((values["height_px"], values["width_px"]))
        yield from _broken_values(values, key, row, split, index)
    if len(sizes) > 1:
        listed = ", ".join(f"{height} x {width}" for height, width in sorted(sizes))
        yield f"image, mask, confidence and JSON differ in size: {listed}"
    if masks[0] is not None:
        yield from _broken_mask(masks[0], row, index)
    if len(masks) > 1 and masks[1] is not None:
        yield from (f"{original[1].name}: {what}" for what in _broken_mask(masks[1], None, index))


def _try(problems: list[str], read: Callable[[bytes, str], Decoded], member: Member) -> Decoded | None:
    try:
        return read(member.data, member.name)
    except DataError as error:
        problems.append(str(error))
        return None


def _broken_values(
    values: dict[str, Any], key: str, row: SampleEntry | None, split: str, index: Index
) -> Iterator[str]:
    names = {entry.id: entry.name for entry in index.classes}
    if values["key"] != key:
        yield f"JSON says key {values['key']!r}"
    if values["split"] != split:
        yield f"JSON says split {values['split']!r}, the shard is of split {split!r}"
    class_id = values["class_id"]
    if class_id != IGNORE and class_id not in names:
        yield f"JSON says class_id {class_id}, which is not a class"
    elif class_id != IGNORE and values["class_name"] != names[class_id]:
        yield f"JSON says class {values['class_name']!r}, the index calls id {class_id} {names[class_id]!r}"
    if row is not None and class_id != row.class_id:
        yield f"JSON says class_id {class_id}, the index says {row.class_id}"


def _broken_mask(mask: np.ndarray, row: SampleEntry | None, index: Index) -> Iterator[str]:
    counts = np.bincount(mask.ravel(), minlength=256)
    present = [int(i) for i in np.flatnonzero(counts)]
    strange = sorted(set(present) - {entry.id for entry in index.classes} - {OUT_OF_DISTRIBUTION, IGNORE})
    if strange:
        yield f"the mask has ids {', '.join(map(str, strange))}, which are no classes"
    pixels = [(i, int(counts[i])) for i in present]
    if row is not None and list(row.pixels) != pixels:
        yield f"the mask has pixels {pixels}, the index says {list(row.pixels)}"
