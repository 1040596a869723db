"""Writes images on a thread of its own, so that encoding and syncing them costs the renderer no time."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from synthgen.images import write_image

MOST_WAITING = 16  # images of 1024 px are 3 MB each; a full queue makes the renderer wait


class ImageWriter:
    """`write` takes a row with its image and gives back the rows, in their order, whose images are on the disk.

    What goes wrong in the thread is raised by a later `write`, or by `rest`. Leaving the `with` block waits for the
    image at work and drops those that wait.
    """

    def __init__(self, most_waiting: int = MOST_WAITING) -> None:
        self._most = most_waiting
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write-images")
        self._waiting: collections.deque[tuple[Any, Future[None] | None]] = collections.deque()

    def __enter__(self) -> ImageWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def write(self, row: Any, image: np.ndarray | None, path: Path) -> Iterator[Any]:
        """Queue (H, W, 3) uint8 for `path`; a row without an image only keeps its place."""
        self._waiting.append((row, None if image is None else self._pool.submit(write_image, image, path)))
        while len(self._waiting) > self._most or (
            self._waiting and (self._waiting[0][1] is None or self._waiting[0][1].done())
        ):
            yield self._first()

    def rest(self) -> Iterator[Any]:
        """Wait for all that has been queued."""
        while self._waiting:
            yield self._first()

    def _first(self) -> Any:
        row, written = self._waiting.popleft()
        if written is not None:
            written.result()
        return row
