"""Rows of any record type from the columns that a test is about; the others are empty."""

from __future__ import annotations

from typing import Any

from synthgen.records import columns_of, from_flat

EMPTY: dict[Any, Any] = {str: "", int: 0, float: 0.0, bool: False, tuple[str, ...]: (), tuple[float, ...]: ()}


def row(record: type, **columns: Any) -> Any:
    """A row of `record`. Raises TypeError for a column that it does not have."""
    return from_flat(record, {name: EMPTY[kind] for name, kind in columns_of(record).items()} | columns)


def changed(before: Any, **columns: Any) -> Any:
    """A row with other values in these columns, whatever record they are nested in."""
    from synthgen.records import flat

    return from_flat(type(before), flat(before) | columns)
