"""The curves and pictures of a training in TensorBoard; the pictures also as files."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from segtrain.errors import RunError
from segtrain.files import write_whole


class Board:
    """Writes to `folder`/tensorboard and `folder`/pictures.

    Every method raises RunError if the disk is full or read only.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        """Points from `first_step` on, which a killed training may have left, are dropped."""
        self._folder, self._pictures = folder / "tensorboard", folder / "pictures"
        # TensorBoard reads a log's files in the order of their names, which begin with the second they were opened in;
        # what follows within a second (process, counter) does not sort as numbers do.
        while any(self._folder.glob(f"events.out.tfevents.{int(time.time()):010d}.*")):
            time.sleep(0.02)
        with self._one_line():
            self._writer = SummaryWriter(str(self._folder), purge_step=first_step)

    def scalar(self, name: str, value: float, step: int) -> None:
        with self._one_line():
            self._writer.add_scalar(name, value, step)

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """(H, W, 3) uint8 RGB; the file is `NAME-STEP.png`."""
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        with self._one_line():
            self._writer.add_image(name, pixels, step, dataformats="HWC")
            self._pictures.mkdir(exist_ok=True)
        write_whole(self._pictures / f"{name}-{step:06d}.png", buffer.getvalue())

    def close(self) -> None:
        with self._one_line():
            self._writer.close()

    @contextlib.contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(f"{self._folder}: cannot be written: {error.strerror or error}") from error
