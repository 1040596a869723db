"""Makes the index of a dataset from the rows that each shard's unit has left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from synthgen.dataset.index import ClassEntry, Index, SampleEntry, ShardEntry, SplitEntry
from synthgen.dataset.verify import class_pixels_of
from synthgen.errors import RunError
from synthgen.labels import LabelSpace
from synthgen.records import ShardRecord

ROWS_FILE = "samples.json"  # beside each tar: [{"key", "class_id", "pixels"}] in tar order


def in_order(shards: Sequence[ShardRecord]) -> list[ShardRecord]:
    """By split, then by number (7 digits come after 6)."""
    return sorted(shards, key=lambda shard: (shard.split, len(shard.key), shard.key))


def build_index(name: str, labels: LabelSpace, run: Path, shards: Sequence[ShardRecord]) -> Index:
    """The index over `shards`. Raises RunError that names the file if the rows beside a tar are missing or
    are not its own.
    """
    shards = in_order(shards)
    samples: list[SampleEntry] = []
    for number, shard in enumerate(shards):
        samples += _rows_of(run, shard, number)
    splits = {shard.split: [other for other in shards if other.split == shard.split] for shard in shards}
    return Index(
        name=name,
        background=labels.background,
        classes=tuple(ClassEntry(id=label.id, name=label.name, colour=label.colour) for label in labels.labels),
        num_samples=len(samples),
        splits=tuple(
            SplitEntry(name=split, num_samples=sum(shard.num_samples for shard in group), num_shards=len(group)) for split, group in splits.items()
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
        class_pixels=class_pixels_of({label.id: label.name for label in labels.labels}, tuple(samples)),
        samples=tuple(samples),
    )


def _rows_of(run: Path, shard: ShardRecord, number: int) -> list[SampleEntry]:
    path = (run / shard.shard).parent / ROWS_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        rows = [SampleEntry.model_validate_json(json.dumps({**row, "shard": number})) for row in raw]
    except (OSError, ValueError, TypeError, ValidationError) as error:
        raise RunError(f"{path}: cannot be read ({type(error).__name__}); remove the folder {path.parent} and run again") from error
    if tuple(row.key for row in rows) != shard.parents or len(rows) != shard.num_samples:
        raise RunError(f"{path}: its keys are not those of {shard.key}.tar; remove {path.parent} and run again")
    return rows
