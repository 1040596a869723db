"""A store of accepted vectors in a temporary file, of which a bounded part is in memory."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from synthgen.similarity.greedy import Tile, search_tiles, tile_rows

IN_MEMORY = 2**20  # bytes of vectors before they go to a file


class SpoolStore:
    """A context that ends with its file. Vectors of any length, kept in `dtype`."""

    room = sys.maxsize

    def __init__(self, dim: int, dtype: np.dtype, folder: Path | None = None) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed by __exit__
            max_size=IN_MEMORY, dir=None if folder is None else str(folder)
        )
        self._dim, self._dtype = dim, np.dtype(dtype)
        self._numbers = np.empty(0, dtype=np.int64)
        self._longest = 0.0

    def __enter__(self) -> SpoolStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._numbers)

    def search(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Store.search`."""
        return search_tiles(rows, self._tiles(tile_rows(len(rows))), self._longest)

    def add(self, rows: np.ndarray, numbers: np.ndarray) -> None:
        """As `Store.add`."""
        self._file.seek(0, 2)
        self._file.write(rows.astype(self._dtype).tobytes())
        self._numbers = np.concatenate([self._numbers, numbers])
        self._longest = max(self._longest, float(np.linalg.norm(rows, axis=1).max(initial=0.0)))

    def _tiles(self, step: int) -> Iterator[Tile]:
        self._file.seek(0)
        for start in range(0, len(self), step):
            numbers = self._numbers[start : start + step]
            data = self._file.read(len(numbers) * self._dim * self._dtype.itemsize)
            tile = np.frombuffer(data, self._dtype).reshape(-1, self._dim)
            yield Tile(numbers, tile.astype(np.float32, copy=False), (tile,))
