"""Manifests of any length: rows written in groups, and read as they are asked for.

A stage may have more rows than fit into memory. What needs all of them asks for a column, or for the rows at some
positions.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.errors import RunError, in_one_line
from synthgen.records import defaults_of, flat, getters, plain_value, rows_of, schema_of

GROUP_ROWS = 1024  # of a parquet row group: what is written and read at once
SLICE_ROWS = 256  # rows that are Python objects at once while all are gone through


def give_memory_back() -> None:
    """Let arrow, in this process, allocate as everything else does:

    its own allocator keeps some ten MB of what has been freed.
    """
    pa.set_memory_pool(pa.system_memory_pool())


class RowWriter:
    """Writes rows of one record type as parquet, GROUP_ROWS in memory at a time. The same rows give the same bytes."""

    def __init__(self, record: type, path: Path) -> None:
        self._schema = schema_of(record)
        self._getters = getters(record)
        self._columns: dict[str, list[Any]] = {name: [] for name in self._getters}
        self._path = path
        self._file: pq.ParquetWriter | None = None
        self._waiting = 0
        self.num_rows = 0

    def add(self, row: Any) -> None:
        if self._waiting == GROUP_ROWS:
            self._write()
        for name, value in self._getters.items():
            self._columns[name].append(plain_value(value(row)))
        self._waiting += 1
        self.num_rows += 1

    def close(self) -> None:
        """Write what is left and the footer: without it the file cannot be read."""
        if self._waiting or self._file is None:
            self._write()
        assert self._file is not None
        self._file.close()

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        elif self._file is not None:  # of a unit that is given up: why, is being told already
            with contextlib.suppress(OSError):
                self._file.close()

    def _write(self) -> None:
        table = pa.Table.from_pydict(self._columns, schema=self._schema)
        if self._file is None:
            self._file = pq.ParquetWriter(self._path, self._schema, compression="zstd", write_page_checksum=True)
        self._file.write_table(table, row_group_size=GROUP_ROWS)
        for values in self._columns.values():
            values.clear()
        self._waiting = 0


class StoredRows:
    """The rows of several parquet files in order; what is not asked for stays on disk.

    Raises RunError for a damaged file.
    """

    def __init__(self, paths: Sequence[Path], record: type) -> None:
        self.record = record
        self._groups: list[tuple[Path, int]] = []
        counts: list[int] = []
        for path in paths:
            for number, count in enumerate(group_sizes(path)):
                self._groups.append((path, number))
                counts.append(count)
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __iter__(self) -> Iterator[Any]:
        for table in self.tables():
            yield from rows_of(table, self.record)

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows as tables of at most SLICE_ROWS."""
        for path, groups in itertools.groupby(range(len(self._groups)), lambda number: self._groups[number][0]):
            with self._parquet_file(path) as file:
                chosen = [self._groups[number][1] for number in groups]
                stored = None if columns is None else self._stored(file, columns)
                for batch in file.iter_batches(SLICE_ROWS, row_groups=chosen, columns=stored, use_threads=False):
                    yield self._completed(pa.Table.from_batches([batch]), columns)

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of all rows."""
        schema = schema_of(self.record)
        return pa.chunked_array(
            [chunk for table in self.tables([name]) for chunk in table.column(name).chunks],
            type=schema.field(name).type,
        )

    def rows(self, start: int, stop: int) -> list[Any]:
        """Rows number start..stop as records."""
        first = max(0, int(np.searchsorted(self._starts, start, side="right")) - 1)
        after = int(np.searchsorted(self._starts, stop, side="left"))
        found: list[Any] = []
        for number, table in self._read(range(first, min(after, len(self._groups)))):
            at = int(self._starts[number])
            begin = max(0, start - at)
            found += rows_of(table.slice(begin, max(0, stop - at - begin)), self.record)
        return found

    def take(self, positions: np.ndarray) -> list[Any]:
        """The rows at these positions as records, in the order asked; one row group is in memory at a time."""
        if not len(positions):
            return []
        by_place = np.argsort(positions, kind="stable")
        ordered = np.asarray(positions, dtype=np.int64)[by_place]
        groups = np.searchsorted(self._starts, ordered, side="right") - 1
        numbers, firsts = np.unique(groups, return_index=True)
        parts = []
        for number, first, after, (_, table) in zip(
            numbers.tolist(),
            firsts.tolist(),
            [*firsts.tolist()[1:], len(ordered)],
            self._read(numbers.tolist()),
            strict=True,
        ):
            parts.append(table.take(pa.array(ordered[first:after] - self._starts[number])))
        back = np.empty(len(by_place), dtype=np.int64)
        back[by_place] = np.arange(len(by_place))
        return rows_of(pa.concat_tables(parts).take(pa.array(back)), self.record)

    def _read(self, numbers: Sequence[int]) -> Iterator[tuple[int, pa.Table]]:
        """(number, table) of these row groups, which ascend;

        a file is opened once for all of its groups that follow each other.
        """
        for path, groups in itertools.groupby(numbers, lambda number: self._groups[number][0]):
            with self._parquet_file(path) as file:
                for number in groups:
                    table = file.read_row_group(self._groups[number][1], use_threads=False)
                    yield number, self._completed(table, None)

    def _stored(self, file: pq.ParquetFile, columns: Sequence[str]) -> list[str]:
        """Those of the columns that a file has; of one that has none of them its first, which knows the length."""
        return [name for name in columns if name in file.schema_arrow.names] or file.schema_arrow.names[:1]

    def _completed(self, table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
        """The table with all `columns`, or with all of the record: those that came later have their default."""
        schema = schema_of(self.record)
        wanted = schema.names if columns is None else list(columns)
        for name in wanted:
            if name not in table.column_names:
                value = plain_value(defaults_of(self.record)[name])
                table = table.append_column(schema.field(name), pa.array([value] * len(table), schema.field(name).type))
        return table.select(wanted)

    @contextlib.contextmanager
    def _parquet_file(self, path: Path) -> Iterator[pq.ParquetFile]:
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                # a reader that is told the schema would fill missing columns with nulls
                lacking = set(schema_of(self.record).names) - set(file.schema_arrow.names)
                present = [field for field in schema_of(self.record) if field.name not in lacking]
                if not lacking <= defaults_of(self.record).keys() or not file.schema_arrow.equals(pa.schema(present)):
                    raise pa.ArrowInvalid(
                        f"columns are not those of {self.record.__name__}, perhaps of another version"
                    )
                yield file
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise RunError(damaged(path, error)) from error


class Picked:
    """Some of the stored rows, in an order of their own: a sequence that holds positions only."""

    def __init__(self, rows: StoredRows, positions: np.ndarray) -> None:
        self._rows, self._positions = rows, positions

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows.take(self._positions))


def column(rows: Sequence[Any] | StoredRows, name: str) -> pa.ChunkedArray:
    """A column of texts, of stored rows or of a plain sequence."""
    if isinstance(rows, StoredRows):
        return rows.column(name)
    return pa.chunked_array([pa.array([flat(row)[name] for row in rows], pa.string())])


def take(rows: Sequence[Any] | StoredRows, positions: np.ndarray) -> list[Any]:
    """The rows at these positions, of stored rows or of a plain sequence."""
    return rows.take(positions) if isinstance(rows, StoredRows) else [rows[position] for position in positions.tolist()]


def write_rows(rows: Iterable[Any], record: type, path: Path) -> None:
    """Write rows of one record type as parquet, in order."""
    with RowWriter(record, path) as writer:
        for row in rows:
            writer.add(row)


def group_sizes(path: Path) -> list[int]:
    """Rows of each row group of a parquet file, from its footer. Raises RunError for a damaged file."""
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no regular file")  # opening a named pipe would wait for ever
        facts = pq.read_metadata(path)
        return [facts.row_group(number).num_rows for number in range(facts.num_row_groups)]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RunError(damaged(path, error)) from error


def damaged(path: Path, error: Exception) -> str:
    """The line about a damaged file of a unit."""
    return (
        f"{path}: is damaged ({in_one_line(error, 120)}); move the unit folder {path.parent} away and run the "
        "same command again"
    )
