"""The curves of a training in TensorBoard."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from segtrain.errors import RunError


class Board:
    """Writes scalars to `folder`/tensorboard. Every method raises RunError if the disk is full or read only."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Points from `first_step` on, which a killed training may have left, are dropped."""
        self._folder = folder / "tensorboard"
        with self._one_line():
            self._writer = SummaryWriter(str(self._folder), purge_step=first_step)

    def scalar(self, name: str, value: float, step: int) -> None:
        with self._one_line():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        with self._one_line():
            self._writer.close()

    @contextlib.contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(f"{self._folder}: cannot be written: {error.strerror or error}") from error
