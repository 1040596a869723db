"""Makes the index of a dataset from the rows that each shard's unit has left.

They are read shard by shard, and never all held.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from segkit.documents import read_json
from segkit.errors import InputError
from segkit.index import ClassEntry, ClassPixels, Index, SampleEntry, ShardEntry, SplitEntry
from segkit.labels import LabelSpace
from segkit.metadata import MEMBERS, ORIGINAL_MEMBERS
from synthgen.errors import RunError
from synthgen.pack.counts import Totals
from synthgen.records import ShardRecord

_KEYS = tuple(Index.model_fields)
MAX_ROWS_BYTES = 2**30
ROWS_FILE = "samples.json"  # beside each tar: [{"key", "class_id", "pixels"}] in tar order


@dataclasses.dataclass(frozen=True, slots=True)
class Shard:
    """A ShardRecord with a digest in place of its keys."""

    key: str
    split: str
    shard: str
    num_samples: int
    num_bytes: int
    sha256: str
    keys_digest: bytes


def in_order(shards: Iterable[ShardRecord]) -> list[Shard]:
    """By split, then by number (7 digits come after 6)."""
    lean = (
        Shard(row.key, row.split, row.shard, row.num_samples, row.num_bytes, row.sha256, _digest(row.parents))
        for row in shards
    )
    return sorted(lean, key=lambda shard: (shard.split, len(shard.key), shard.key))


def build_index(
    name: str, labels: LabelSpace, run: Path, shards: Sequence[Shard], *, has_originals: bool = False
) -> tuple[Index, Totals]:
    """The index over `shards`, which are in order, without its samples; and sums over these. `has_originals` says that
    samples are pairs. Raises RunError that names
    the file if the rows beside a tar are missing or are not its own.
    """
    totals = Totals()
    for row in samples_of(run, shards):
        for class_id, count in row.pixels:
            totals.pixels[class_id] += count
            totals.occurs[class_id] += 1
        totals.made_for[row.class_id] += 1
        totals.key_lengths.add(len(row.key))
    splits = {shard.split: [other for other in shards if other.split == shard.split] for shard in shards}
    index = Index(
        name=name,
        members=MEMBERS + ORIGINAL_MEMBERS if has_originals else MEMBERS,
        background=labels.background,
        classes=tuple(ClassEntry(id=label.id, name=label.name, colour=label.colour) for label in labels.labels),
        num_samples=sum(shard.num_samples for shard in shards),
        splits=tuple(
            SplitEntry(name=split, num_samples=sum(shard.num_samples for shard in group), num_shards=len(group))
            for split, group in splits.items()
        ),
        shards=tuple(
            ShardEntry(
                file=f"{shard.key}.tar",
                split=shard.split,
                num_samples=shard.num_samples,
                num_bytes=shard.num_bytes,
                sha256=shard.sha256,
            )
            for shard in shards
        ),
        class_pixels=tuple(
            ClassPixels(id=label.id, name=label.name, pixels=totals.pixels[label.id], samples=totals.occurs[label.id])
            for label in labels.labels
        ),
        samples=(),
    )
    return index, totals


def samples_of(run: Path, shards: Sequence[Shard]) -> Iterator[SampleEntry]:
    """The index's samples in order; one shard's are in memory at a time. Raises RunError as `build_index` does."""
    for number, shard in enumerate(shards):
        yield from entries_of(run, shard, number)


def entries_of(run: Path, shard: Shard, number: int) -> list[SampleEntry]:
    """The samples of one shard; `number` is its place among all."""
    path = (run / shard.shard).parent / ROWS_FILE
    try:
        raw = read_json(path, max_bytes=MAX_ROWS_BYTES)
        rows = [SampleEntry.model_validate_json(json.dumps({**row, "shard": number})) for row in raw]
    except (InputError, ValueError, TypeError, ValidationError) as error:
        raise RunError(
            f"{path}: cannot be read ({type(error).__name__}); remove the folder {path.parent} and run again"
        ) from error
    if _digest(row.key for row in rows) != shard.keys_digest or len(rows) != shard.num_samples:
        raise RunError(f"{path}: its keys are not those of {shard.key}.tar; remove {path.parent} and run again")
    return rows


def index_bytes(index: Index) -> bytes:
    """The JSON text, one sample, shard or class a line. The same index gives the same bytes."""
    return b"".join(index_chunks(index, index.samples))


def index_chunks(index: Index, samples: Iterable[SampleEntry]) -> Iterator[bytes]:
    """The same text in pieces, with these samples instead of the index's own: they need not fit into memory."""
    for name in _KEYS:
        yield (b"{\n" if name == "format" else b",\n") + f'  "{name}": '.encode()
        value = samples if name == "samples" else getattr(index, name)
        if name == "samples" or (isinstance(value, tuple) and name != "members"):
            mark = b"[\n"
            for row in value:
                yield mark + f"    {row.model_dump_json()}".encode()
                mark = b",\n"
            yield b"[]" if mark == b"[\n" else b"\n  ]"
        else:
            yield json.dumps(value, ensure_ascii=False).encode()
    yield b"\n}\n"


def _digest(keys: Iterable[str]) -> bytes:
    return hashlib.blake2b("\n".join(keys).encode(), digest_size=16).digest()
