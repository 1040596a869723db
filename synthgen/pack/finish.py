"""Turns packed shards into `run/dataset/`: tars, contact sheet, card, the files that other tools read, and the index last."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from synthgen.dataset.index import INDEX_FILE, Index, index_bytes
from synthgen.dataset.side_files import CROISSANT_FILE, table_bytes, table_file, table_rows, wids_bytes, wids_file
from synthgen.errors import RunError, StorageError
from synthgen.files import sweep_unfinished, temporary_beside, unfinished_name, write_bytes
from synthgen.labels import read_label_space
from synthgen.pack.card import card_text
from synthgen.pack.contact_sheet import contact_sheet
from synthgen.pack.counts import RunCounts
from synthgen.pack.croissant import croissant_bytes
from synthgen.pack.index import build_index, in_order
from synthgen.pack.stage import metadata_of
from synthgen.recipe import Recipe
from synthgen.records import Sample, ShardRecord

CARD_FILE = "README.md"
SHEET_FILE = "contact_sheet.png"


def finish(recipe: Recipe, run: Path, shards: Sequence[ShardRecord], samples: Iterable[Sample], counts: RunCounts) -> Path:
    """Build the dataset folder and return it. Run again, it changes nothing; the same run gives the same
    bytes.

    Shards are hard links to those of the pack stage, or copies where the file system has no links. All
    other files are made anew; no foreign file is touched. Raises RunError if the folder holds files that
    are not of this dataset, or if there is no shard.
    """
    if not shards:
        raise RunError(f"{run}: no sample passed the filter, nothing to pack; loosen filter.rules or make more images")
    labels = read_label_space(recipe.labels.space)
    shards = in_order(shards)
    for shard in shards:
        source = run / shard.shard
        if not source.is_file() or source.stat().st_size != shard.num_bytes:
            raise RunError(f"{source}: is missing or not of the recorded size; remove {source.parent} and run again")
    index = build_index(recipe.name, labels, run, shards)
    samples = list(samples)
    card = card_text(recipe, labels, index, counts)
    sheet = contact_sheet(run, samples, labels)

    dataset = run / "dataset"
    try:
        dataset.mkdir(exist_ok=True)
    except OSError as error:
        raise StorageError(f"{dataset}: cannot be made ({error.strerror or error})") from error
    lists = {wids_file(split.name): wids_bytes(index, split.name) for split in index.splits}
    own = {*lists, *(name for shard in index.shards for name in (shard.file, table_file(shard.file)))}
    own |= {CARD_FILE, SHEET_FILE, CROISSANT_FILE, INDEX_FILE}
    _refuse_foreign(dataset, own)
    for shard in shards:
        _place(run / shard.shard, dataset / f"{shard.key}.tar", shard.sha256)
    _write(sheet, dataset / SHEET_FILE)
    _write(card.encode(), dataset / CARD_FILE)
    for name, data in lists.items():
        _write(data, dataset / name)
    tables = _write_tables(dataset, index, {sample.key: sample for sample in samples})
    _write(croissant_bytes(recipe, index, counts, tables), dataset / CROISSANT_FILE)
    _write(index_bytes(index), dataset / INDEX_FILE)
    sweep_unfinished(dataset, own)
    return dataset


def _write_tables(dataset: Path, index: Index, by_key: Mapping[str, Sample]) -> dict[str, tuple[str, int]]:
    """One table a shard; one is in memory at a time. Returns sha256 and size of each by file name."""
    written = {}
    for number, entries in itertools.groupby(index.samples, lambda row: row.shard):
        shard, rows = index.shards[number].file, list(entries)
        data = table_bytes(table_rows(shard, [metadata_of(by_key[row.key]) for row in rows], rows))
        _write(data, dataset / table_file(shard))
        written[table_file(shard)] = (hashlib.sha256(data).hexdigest(), len(data))
    return written


def _refuse_foreign(dataset: Path, own: set[str]) -> None:
    foreign = sorted(path.name for path in dataset.iterdir() if (unfinished_name(path.name) or path.name) not in own)
    if foreign:
        shown = ", ".join(foreign[:8]) + (f" and {len(foreign) - 8} more" if len(foreign) > 8 else "")
        raise RunError(f"{dataset}: holds files that are not of this dataset: {shown}; move them away and run again")


def _place(source: Path, target: Path, sha256: str) -> None:
    """Link or copy one shard. Raises RunError if another file has its name."""
    try:
        if not os.path.lexists(target):
            try:
                os.link(source, target)
            except FileExistsError:
                pass  # another worker was faster; checked below
            except OSError:
                _copy(source, target)
        if not target.samefile(source) and _sha256(target) != sha256:
            raise RunError(f"{target}: is not the shard of this run; move it away and run again")
    except OSError as error:
        raise StorageError(f"{target}: not written ({error.strerror or error}); free space or mend permissions, then rerun") from error


def _copy(source: Path, target: Path) -> None:
    temporary = temporary_beside(target)
    try:
        with source.open("rb") as reading, temporary.open("wb") as writing:
            shutil.copyfileobj(reading, writing, 2**20)
            writing.flush()
            os.fsync(writing.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(data: bytes, path: Path) -> None:
    if not path.is_file() or path.read_bytes() != data:
        write_bytes(data, path)
