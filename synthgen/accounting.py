"""Which rows of a unit have been answered: nothing is ever lost without a reason."""

from __future__ import annotations

import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synthgen.errors import RunError
from synthgen.records import Rejected
from synthgen.rows import StoredRows


class Account:
    """Which rows have been answered: 8 bytes a key (Python's own 64-bit hash), for units of a million rows."""

    def __init__(self) -> None:
        self._made, self._answered = array.array("q"), array.array("q")

    def add(self, row: Any) -> None:
        if not isinstance(row, Rejected):
            self._made.append(hash(row.key))
        self._answered.extend(map(hash, getattr(row, "parents", ()) or (row.key, row.parent)))

    def check(self, stage: str, unit: str, gives: type, rows: Sequence[Any] | StoredRows, manifest: Path) -> None:
        """Raises RunError if a row has no answer, or if a key was made twice."""
        answered, lost, first = np.unique(np.frombuffer(self._answered, np.int64)), 0, ""
        for keys in _keys(rows):
            missing = np.flatnonzero(~np.isin(np.fromiter(map(hash, keys), np.int64, len(keys)), answered))
            first = keys[missing[0]] if len(missing) and not lost else first
            lost += len(missing)
        if lost:
            raise RunError(
                f"{stage} unit {unit}: {lost} rows gave neither a result nor a reason, first {first}; "
                "this is a defect of the stage"
            )
        made = np.sort(np.frombuffer(self._made, np.int64))
        if (made[1:] == made[:-1]).any():  # two keys may have one hash, so look at the keys
            seen: set[str] = set()
            for key in (key for keys in _keys(StoredRows([manifest], gives)) for key in keys):
                if key in seen:
                    raise RunError(f"{stage} unit {unit}: key {key} was made twice; this is a defect of the stage")
                seen.add(key)


def _keys(rows: Sequence[Any] | StoredRows) -> Iterator[list[str]]:
    if not isinstance(rows, StoredRows):
        yield [row.key for row in rows]
        return
    for table in rows.tables(["key"]):
        yield table.column("key").to_pylist()
