"""Exports a dataset shard by shard: what is done is not done again, one sample is in memory at a time."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from segkit.index import INDEX_FILE
from segkit.shards import Dataset
from synthgen.errors import DatasetError
from synthgen.export.catalogue import Format, find
from synthgen.export.folder import ExportFolder


@dataclasses.dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export came to."""

    folder: Path
    num_samples: int
    num_new: int  # samples written this time; 0 if the export was whole already
    loss: str  # what of the masks does not survive; "" for nothing
    use: str  # how to open it


def dataset_folder(run_or_dataset: Path) -> Path:
    """The finished dataset at a path: itself, or `dataset/` of a run. Raises DatasetError if there is none."""
    for folder in (run_or_dataset, run_or_dataset / "dataset"):
        if (folder / INDEX_FILE).is_file():
            return folder
    raise DatasetError(
        f"{run_or_dataset}: no finished dataset here (no {INDEX_FILE}, nor dataset/{INDEX_FILE}); run `synthgen "
        "pack` first"
    )


def export(run_or_dataset: Path, to: str, out: Path) -> ExportReport:
    """Write the dataset to `out` in the layout `to`; run again, it goes on after the last whole shard.

    Raises InputError for an unknown format, StorageError if `out` holds anything but this very export, LabelError if
    the format cannot hold the label space, DatasetError for a damaged shard.
    """
    module = find(to)
    source = dataset_folder(run_or_dataset)
    dataset = Dataset(source)
    form: Format = module.build(dataset)
    index_sha256 = hashlib.sha256((source / INDEX_FILE).read_bytes()).hexdigest()
    folder = ExportFolder(out, {"format": to, "dataset": dataset.index.name, "index_sha256": index_sha256})
    if folder.open():
        return ExportReport(out, len(dataset), 0, module.LOSS, module.USE)
    new, first = 0, 0
    shards = dataset.index.shards
    for number, shard in enumerate(shards):
        if not folder.has(shard.file):
            folder.put_rows(shard.file, _shard(form, dataset, number, first, folder))
            new += shard.num_samples
        first += shard.num_samples
    for path, pieces in form.closing(functools.partial(folder.rows, [shard.file for shard in shards])):
        folder.put(path, (piece.encode() for piece in pieces))
    folder.close({"num_samples": len(dataset), "loss": module.LOSS, "use": module.USE})
    return ExportReport(out, len(dataset), new, module.LOSS, module.USE)


def _shard(form: Format, dataset: Dataset, number: int, first: int, folder: ExportFolder) -> Iterator[tuple[str, Any]]:
    split = dataset.index.shards[number].split
    for place, sample in enumerate(dataset.shard_samples(number), first):
        exported = form.sample(place, split, sample)
        for path, data in exported.files.items():
            folder.put(path, [data])
        yield from exported.rows
