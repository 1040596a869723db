"""Turns packed shards into `run/dataset/`:

tars, contact sheet, card, the files that other tools read, and the index last.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from segkit.index import INDEX_FILE, Index
from segkit.metadata import kinds_of
from synthgen import ownership, storage
from synthgen.dataset.side_files import CROISSANT_FILE, table_bytes, table_file, table_rows, wids_bytes, wids_file
from synthgen.errors import RunError, StorageError
from synthgen.files import sha256_of, sweep_unfinished, temporary_beside, unfinished_name, write_bytes, write_chunks
from synthgen.labels import read_label_space
from synthgen.pack.card import card_text
from synthgen.pack.contact_sheet import contact_sheet
from synthgen.pack.counts import RunCounts
from synthgen.pack.croissant import croissant_bytes
from synthgen.pack.fields import metadata_of
from synthgen.pack.index import Shard, build_index, entries_of, in_order, index_chunks, samples_of
from synthgen.recipe import Recipe
from synthgen.records import Sample, ShardRecord
from synthgen.rows import SLICE_ROWS, StoredRows, column, take

CARD_FILE = "README.md"
SHEET_FILE = "contact_sheet.png"


def finish(
    recipe: Recipe, run: Path, shards: Iterable[ShardRecord], samples: Sequence[Sample] | StoredRows, counts: RunCounts
) -> Path:
    """Build the dataset folder and return it. Run again, it changes nothing; the same run gives the same
    bytes.

    Shards are hard links to those of the pack stage, or copies where the file system has no links. All
    other files are made anew; no foreign file is touched. Raises RunError if the folder holds files that
    are not of this dataset, or if there is no shard.
    """
    ordered = in_order(shards)
    if not ordered:
        raise RunError(f"{run}: no sample passed the filter, nothing to pack; loosen filter.rules or make more images")
    labels = read_label_space(recipe.labels.space)
    for shard in ordered:
        source = run / shard.shard
        if storage.size_of(source) != shard.num_bytes:
            raise RunError(f"{source}: is missing or not of the recorded size; remove {source.parent} and run again")
    index, totals = build_index(recipe.name, labels, run, ordered, has_originals=_has_originals(samples))
    card = card_text(recipe, labels, index, totals, counts)
    sheet = contact_sheet(run, samples, labels)

    dataset = run / ownership.DATASET
    ownership.claim_dataset(dataset)
    lists = {wids_file(split.name): wids_bytes(index, split.name) for split in index.splits}
    own = {*lists, *(name for shard in index.shards for name in (shard.file, table_file(shard.file)))}
    own |= {CARD_FILE, SHEET_FILE, CROISSANT_FILE, INDEX_FILE, ownership.MARK}
    _refuse_foreign(dataset, own)
    known = _is_stored(run, dataset / INDEX_FILE, index, ordered)
    for shard in ordered:
        target = dataset / f"{shard.key}.tar"
        if not known or storage.size_of(target) != shard.num_bytes:
            _place(run / shard.shard, target, shard.sha256)
    _write(sheet, dataset / SHEET_FILE)
    _write(card.encode(), dataset / CARD_FILE)
    for name, data in lists.items():
        _write(data, dataset / name)
    tables = _write_tables(run, dataset, ordered, samples)
    _write(croissant_bytes(recipe, index, totals, counts, tables), dataset / CROISSANT_FILE)
    _write_index(run, dataset / INDEX_FILE, index, ordered)
    sweep_unfinished(dataset, own)
    return dataset


def _write_tables(
    run: Path, dataset: Path, shards: Sequence[Shard], samples: Sequence[Sample] | StoredRows
) -> dict[str, tuple[str, int]]:
    """One table a shard; one is in memory at a time. Returns sha256 and size of each by file name."""
    written = {}
    keys = _padded(column(samples, "key"))
    by_key = np.argsort(keys, kind="stable").astype(np.uint32)
    for number, shard in enumerate(shards):
        entries = entries_of(run, shard, number)
        wanted = np.array([row.key for row in entries], dtype="S")
        places = np.searchsorted(keys, wanted, sorter=by_key)
        rows = take(samples, by_key[np.minimum(places, len(by_key) - 1)])
        lost = next((entry.key for entry, row in zip(entries, rows, strict=True) if entry.key != row.key), None)
        if lost is not None:
            raise RunError(
                f"{run / shard.shard}: sample {lost!r} is not among those that passed the filter; run again with "
                "--redo pack"
            )
        file = f"{shard.key}.tar"
        metadata = [metadata_of(row) for row in rows]
        data = table_bytes(table_rows(file, metadata, entries), kinds_of(metadata[0]))
        _write(data, dataset / table_file(file))
        written[table_file(file)] = (hashlib.sha256(data).hexdigest(), len(data))
    return written


def _has_originals(samples: Sequence[Sample] | StoredRows) -> bool:
    return any(path.as_py() for path in column(samples, "original"))


def _padded(keys: pa.ChunkedArray) -> np.ndarray:
    """Keys, which are ASCII, as a numpy array of bytes: numpy can search it, and it has no object a key."""
    padded = np.zeros(len(keys), dtype=f"S{pc.max(pc.binary_length(keys)).as_py() or 1}")
    for start in range(0, len(keys), SLICE_ROWS):
        padded[start : start + SLICE_ROWS] = np.array(keys.slice(start, SLICE_ROWS).to_pylist(), dtype="S")
    return padded


def _is_stored(run: Path, path: Path, index: Index, shards: Sequence[Shard]) -> bool:
    """Whether an object store has this very index, which is written last:

    then its shards need not be read again to know them.
    """
    if storage.store_of(path) is None:
        return False
    storage.refresh(path)
    return path.is_file() and _holds(path, index_chunks(index, samples_of(run, shards)))


def _write_index(run: Path, path: Path, index: Index, shards: Sequence[Shard]) -> None:
    if not path.is_file() or not _holds(path, index_chunks(index, samples_of(run, shards))):
        write_chunks(index_chunks(index, samples_of(run, shards)), path)
    storage.publish(path)


def _holds(path: Path, chunks: Iterable[bytes]) -> bool:
    """Whether a file has just these bytes."""
    with path.open("rb") as file:
        return all(file.read(len(chunk)) == chunk for chunk in chunks) and not file.read(1)


def _refuse_foreign(dataset: Path, own: set[str]) -> None:
    foreign = [name for name in storage.names(dataset) if (unfinished_name(name) or name) not in own]
    if foreign:
        listed = ", ".join(foreign[:8]) + (f" and {len(foreign) - 8} more" if len(foreign) > 8 else "")
        raise RunError(f"{dataset}: holds files that are not of this dataset: {listed}; move them away and run again")


def _place(source: Path, target: Path, sha256: str) -> None:
    """Link or copy one shard. Raises RunError if another file has its name."""
    other = f"{target}: is not the shard of this run; move it away and run again"
    again = f"remove the folder {source.parent} and run again"
    if storage.store_of(target) is not None:
        if not storage.copy_within(source, target, sha256):
            raise RunError(other)
        return
    try:
        if not os.path.lexists(target):
            if sha256_of(source) != sha256:
                raise RunError(f"{source}: is damaged, its bytes are not those that were written; {again}")
            try:
                os.link(source, target)
            except FileExistsError:
                pass  # another worker was faster; checked below
            except OSError:
                _copy(source, target)
        if not target.samefile(source) and sha256_of(target) != sha256:
            raise RunError(other)
    except OSError as error:
        raise StorageError(
            f"{target}: not written ({error.strerror or error}); free space or mend permissions, then rerun"
        ) from error


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


def _write(data: bytes, path: Path) -> None:
    if not path.is_file() or path.read_bytes() != data:
        write_bytes(data, path)
    storage.publish(path)
