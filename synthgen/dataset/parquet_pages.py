"""How much a parquet file unpacks to, by the heads of its pages: known before a page is unpacked.

What the footer says is what its writer wanted it to say. A decompressor fills no more than a page's head claims, so the
sum of the heads is a bound. What a small page may still stand for is bounded by the number of values in the heads, and
by leaving encodings that our writer does not use: with DELTA_BYTE_ARRAY a few bytes are a megabyte of text a row.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.parquet as pq

from segkit.errors import DatasetError
from segkit.files import open_regular

_MAX_HEAD_BYTES = 2**16
_KNOWN_ENCODINGS = (0, 2, 3, 8)  # PLAIN, PLAIN_DICTIONARY, RLE, RLE_DICTIONARY
_DEPTH = 8
_BODIES = {5: 2, 7: 2, 8: 4}  # field of a page's kind in its head -> field of the encoding in that; 1 is the number


@dataclasses.dataclass(frozen=True, slots=True)
class Unpacked:
    """What the pages of a file come to."""

    num_bytes: int
    num_values: int


def unpacked(path: Path, facts: pq.FileMetaData) -> Unpacked:
    """The sum over the heads of all pages of a file whose footer is `facts`; no page is read.

    Raises DatasetError for heads that are none, places beyond the file, and encodings that our tables do not have.
    """
    num_bytes = num_values = 0
    with open_regular(path, DatasetError) as file:
        size = os.fstat(file.fileno()).st_size
        for start, length in _chunks(facts):
            if start < 4 or length < 0 or start + length > size:
                raise DatasetError("its footer names places that the file does not have")
            at = start
            while at < start + length:
                head, head_bytes = _head(file, at, start + length)
                body = next(((head[field], field) for field in _BODIES if isinstance(head.get(field), dict)), None)
                plain, stored = head.get(2), head.get(3)
                if body is None or not isinstance(plain, int) or not isinstance(stored, int) or min(plain, stored) < 0:
                    raise DatasetError("a page in it has no head that could be one")
                values, encoding = body[0].get(1), body[0].get(_BODIES[body[1]])
                if not isinstance(values, int) or values < 0 or encoding not in _KNOWN_ENCODINGS:
                    raise DatasetError("a page in it is encoded in a way that our tables are not")
                num_bytes, num_values = num_bytes + plain, num_values + values
                at += head_bytes + stored
    return Unpacked(num_bytes, num_values)


def _chunks(facts: pq.FileMetaData) -> Iterator[tuple[int, int]]:
    """(start, length) in the file of every column chunk."""
    for number in range(facts.num_row_groups):
        group = facts.row_group(number)
        for column in range(group.num_columns):
            chunk = group.column(column)
            starts = [chunk.data_page_offset]
            if chunk.has_dictionary_page and chunk.dictionary_page_offset:
                starts.append(chunk.dictionary_page_offset)
            yield min(starts), chunk.total_compressed_size


def _head(file: BinaryIO, at: int, end: int) -> tuple[dict[int, Any], int]:
    """The head of the page at a place, and its length."""
    file.seek(at)
    reader = _Compact(file.read(min(_MAX_HEAD_BYTES, end - at)))
    try:
        return reader.struct(_DEPTH), reader.at
    except IndexError as error:
        raise DatasetError("a page in it has no head that could be one") from error


class _Compact:
    """Thrift's compact protocol, as far as the heads of pages need it. Raises IndexError beyond the end."""

    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def struct(self, depth: int) -> dict[int, Any]:
        """Field -> number or struct; other values are passed over."""
        if not depth:
            raise IndexError
        fields: dict[int, Any] = {}
        field = 0
        while (head := self._byte()) != 0:
            field = field + (head >> 4) if head >> 4 else self._integer()
            fields[field] = self._value(head & 15, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):  # the value is in the kind
            return kind == 1
        if kind in (4, 5, 6):
            return self._integer()
        if kind == 3:
            return self._byte()
        if kind == 7:
            return self._skip(8)
        if kind == 8:
            return self._skip(self._varint())
        if kind == 12:
            return self.struct(depth - 1)
        raise IndexError  # heads of pages hold no lists

    def _skip(self, count: int) -> None:
        if self.at + count > len(self._data):
            raise IndexError
        self.at += count

    def _byte(self) -> int:
        value = self._data[self.at]
        self.at += 1
        return value

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise IndexError

    def _integer(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
