"""Reads a finished dataset again, every byte of its shards, and lists what is broken."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from segkit.index import INDEX_FILE, ClassPixels, Index, SampleEntry, read_index
from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION
from segkit.metadata import KEY_FORM, is_key
from synthgen.dataset.verify_shard import broken_in_shard, differing_fields
from synthgen.dataset.verify_side_files import broken_in_lists, broken_in_pages
from synthgen.errors import DatasetError

NOT_CHECKED = "what README.md and croissant.json say in prose, names and colours of classes, files of others"
"""What `verify` looks at no further: nothing else in a dataset says it again."""


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is broken. `shard` is a file name ("index.json" for the index), `key` a sample's ("" if
    it is about no one sample).
    """

    shard: str
    key: str
    what: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.shard, self.key, self.what) if part)


def verify(folder: Path, workers: int = 1) -> list[Problem]:
    """Everything that breaks docs/SHARD_FORMAT.md or the index's own sums; an empty list if the dataset is
    sound.

    Damage never raises: flipped bits, truncation, missing and foreign files are problems. `workers` shards
    are read at a time (decoders release the interpreter lock). A changed shard byte is always found (sha256);
    of the index, which carries no hash of itself, what cannot be found is a change to a free value: the
    dataset's name, a colour, the name of a class that no sample asks for.
    """
    try:
        index = read_index(folder)
        index.label_space(str(folder / INDEX_FILE))
    except DatasetError as error:
        return [Problem(INDEX_FILE, "", str(error).removeprefix(f"{folder / INDEX_FILE}: "))]
    problems = [Problem(INDEX_FILE, key, what) for key, what in _broken_in_index(index)]
    named = {shard.file for shard in index.shards}
    for path in sorted(folder.glob("*.tar")):
        if path.name not in named:
            problems.append(Problem(path.name, "", "is not in the index, but loaders that take *.tar would read it"))
    problems += [Problem(file, "", what) for file, what in broken_in_lists(folder, index)]
    problems += [Problem(file, "", what) for file, what in broken_in_pages(folder)]
    rows: list[list[SampleEntry]] = [[] for _ in index.shards]
    for row in index.samples:
        if row.shard < len(rows):
            rows[row.shard].append(row)

    fields: dict[int, dict[str, Any]] = {}

    def check(number: int) -> list[tuple[str, str]]:
        return list(broken_in_shard(folder, index, number, rows[number], fields))

    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            by_shard = list(pool.map(check, range(len(rows))))
    else:
        by_shard = [check(number) for number in range(len(rows))]
    for shard, broken in zip(index.shards, by_shard, strict=True):
        problems += [Problem(shard.file, key, what) for key, what in broken]
    problems += [Problem(file, "", what) for file, what in _broken_fields(index, fields)]
    return problems


def class_pixels_of(index_classes: dict[int, str], samples: tuple[SampleEntry, ...]) -> tuple[ClassPixels, ...]:
    """The sums of the index: for each class (id -> name) its pixels over all samples and the number of
    samples that have it.
    """
    pixels: Counter[int] = Counter()
    occurs: Counter[int] = Counter()
    for row in samples:
        for class_id, count in row.pixels:
            pixels[class_id] += count
            occurs[class_id] += 1
    return tuple(ClassPixels(id=i, name=name, pixels=pixels[i], samples=occurs[i]) for i, name in index_classes.items())


def _broken_in_index(index: Index) -> Iterator[tuple[str, str]]:
    names = {entry.id: entry.name for entry in index.classes}
    yield from _broken_sums(index)
    if index.class_pixels != class_pixels_of(names, index.samples):
        yield "", "class_pixels is not the sum over the samples, class by class in the order of `classes`"
    known = {*names, OUT_OF_DISTRIBUTION, IGNORE}
    for row in index.samples:
        ids = [class_id for class_id, _ in row.pixels]
        if not is_key(row.key):
            yield row.key, f"a key must be {KEY_FORM}"
        if row.class_id not in names and row.class_id != IGNORE:
            yield row.key, f"class_id {row.class_id} is not a class"
        if ids != sorted(set(ids)) or not set(ids) <= known or any(count == 0 for _, count in row.pixels):
            yield (
                row.key,
                f"pixels {list(row.pixels)} must be sorted by id, each id once, known and with a count",
            )
    keys = Counter(row.key for row in index.samples)
    yield from ((key, f"the key occurs {count} times") for key, count in keys.items() if count > 1)
    for before, after in itertools.pairwise(index.samples):
        shards = (before.shard, after.shard)
        if max(shards) >= len(index.shards):
            continue
        same_split = index.shards[before.shard].split == index.shards[after.shard].split
        if before.shard > after.shard or (same_split and before.key > after.key):
            yield (
                after.key,
                f"comes after {before.key!r}: samples must lie in shard order, by key within a split",
            )


def _broken_fields(index: Index, fields: Mapping[int, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """`fields`: number of a shard -> the fields of its first sample that can be read, with their types."""
    first = min(fields, default=0)
    for number in sorted(fields):
        if differing := differing_fields(fields[first], fields[number]):
            yield (
                index.shards[number].file,
                f"every sample has the same fields, those of {index.shards[first].file} and these differ in "
                f"{', '.join(differing)}",
            )


def _broken_sums(index: Index) -> Iterator[tuple[str, str]]:
    in_shard = Counter(row.shard for row in index.samples)
    for number in in_shard.keys() - set(range(len(index.shards))):
        yield "", f"samples name shard {number}, there are {len(index.shards)}"
    if index.num_samples != len(index.samples):
        yield "", f"num_samples is {index.num_samples}, it lists {len(index.samples)} samples"
    for entry in index.splits:
        shards = [(number, shard) for number, shard in enumerate(index.shards) if shard.split == entry.name]
        files = [f"{entry.name}-{number:06d}.tar" for number in range(len(shards))]
        if [shard.file for _, shard in shards] != files:
            yield "", f"the shards of split {entry.name!r} must be {entry.name}-000000.tar and on, without a gap"
        total = sum(in_shard[number] for number, _ in shards)
        if entry.num_shards != len(shards):
            yield "", f"split {entry.name!r} claims {entry.num_shards} shards, {len(shards)} are listed"
        if entry.num_samples != total:
            yield "", f"split {entry.name!r} claims {entry.num_samples} samples, {total} are listed"
    for number, shard in enumerate(index.shards):
        if shard.num_samples != in_shard[number]:
            yield "", f"{shard.file} claims {shard.num_samples} samples, {in_shard[number]} are listed"
