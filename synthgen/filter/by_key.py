"""Scored rows in the order of their keys, a block at a time: sorted through files where they are more than a block."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.records import ScoredRecord, rows_of, schema_of
from synthgen.rows import StoredRows

BLOCK_ROWS = 512
_VECTOR = "image_embedding"
_SCHEMA = schema_of(ScoredRecord)

Block = tuple[list[ScoredRecord], np.ndarray]
"""Rows, those that were stored without their embedding, and the embeddings (N, D)."""


class ByKey:
    """Blocks of rows, as often as they are gone through.

    Stored rows are sorted into files of a temporary folder first, a range of keys a file.
    """

    def __init__(self, rows: Sequence[ScoredRecord] | StoredRows, folder: Path) -> None:
        self._rows, self._folder = rows, folder
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._files: list[Path] = []

    def __enter__(self) -> ByKey:
        if isinstance(self._rows, StoredRows) and len(self._rows) > BLOCK_ROWS:
            self._scratch = tempfile.TemporaryDirectory(prefix=".by_key-", dir=self._folder)
            self._files = _sorted_into(self._rows, Path(self._scratch.name))
        return self

    def __exit__(self, *_: object) -> None:
        if self._scratch is not None:
            self._scratch.cleanup()

    def __iter__(self) -> Iterator[Block]:
        if not isinstance(self._rows, StoredRows):
            ordered = sorted(self._rows, key=lambda row: row.key)
            for start in range(0, len(ordered), BLOCK_ROWS):
                some = ordered[start : start + BLOCK_ROWS]
                yield some, np.array([row.image_embedding for row in some], dtype=np.float64)
        elif self._scratch is None:
            if len(self._rows):
                table = pa.concat_tables(list(self._rows.tables()))
                yield _block(table.take(pc.sort_indices(table.column("key"))))
        else:
            for path in self._files:
                table = pa.Table.from_batches(list(_batches(path)))
                block = _block(table.take(pc.sort_indices(table.column("key"))))
                del table
                yield block


def _block(table: pa.Table) -> Block:
    vectors = table.column(_VECTOR).combine_chunks()
    flat = vectors.flatten().to_numpy(zero_copy_only=False)
    bare: dict[str, Any] = {_VECTOR: pa.array([[]] * table.num_rows, vectors.type)}
    rest = table.drop_columns([_VECTOR]).append_column(table.schema.field(_VECTOR), bare[_VECTOR])
    return rows_of(rest, ScoredRecord), flat.reshape(table.num_rows, -1)


def _sorted_into(rows: StoredRows, folder: Path) -> list[Path]:
    """One file for each range of the sorted keys, of batches one after another.

    12 bytes a row are held, and some hundred rows.
    """
    by_key = pc.sort_indices(rows.column("key")).to_numpy()
    place = np.empty(len(by_key), dtype=np.uint32)
    place[by_key] = np.arange(len(by_key), dtype=np.uint32) // BLOCK_ROWS
    paths = [folder / f"{number:06d}.batches" for number in range(-(-len(rows) // BLOCK_ROWS))]
    position = 0
    for table in _gathered(rows):
        of_row = place[position : position + table.num_rows]
        position += table.num_rows
        for number in np.unique(of_row).tolist():
            (batch,) = table.take(pa.array(np.flatnonzero(of_row == number))).combine_chunks().to_batches()
            with paths[number].open("ab") as file:
                file.write(batch.serialize())
    return paths


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(path), "rb") as file:
        while file.tell() < file.size():
            yield pa.ipc.read_record_batch(pa.ipc.read_message(file), _SCHEMA)


def _gathered(rows: StoredRows) -> Iterator[pa.Table]:
    """Tables of about BLOCK_ROWS rows: units may be smaller or larger."""
    waiting: list[pa.Table] = []
    for table in rows.tables():
        waiting.append(table)
        if sum(part.num_rows for part in waiting) >= BLOCK_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)
