"""The losses of a training: a CSV line a step, a TensorBoard log, and the curve as a picture."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthgen.errors import StorageError
from synthgen.files import write_text
from synthgen.training.loop import Step

WIDTH, HEIGHT, MARGIN = 720, 240, 42
POINTS = 200  # of the curve: means over equal spans of steps


class Losses:
    """Written step by step. What a killed training has logged beyond its checkpoint is replaced by what comes anew."""

    def __init__(self, folder: Path, name: str) -> None:
        """`folder`/`name`.csv and `folder`/board/`name`."""
        self._folder, self._name = folder, name
        self._board: Any = None
        self._file: Any = None
        self._names: list[str] = []

    def add(self, step: Step) -> None:
        """Raises StorageError in one line if the disk is full."""
        try:
            if self._board is None:
                self._begin(step)
            self._file.write(",".join([str(step.number), *(f"{step.losses[name]:.9g}" for name in self._names)]) + "\n")
            self._file.flush()
            for name, value in step.losses.items():
                self._board.add_scalar(name, value, step.number)
        except OSError as error:
            raise StorageError(
                f"{self._folder}: cannot be written ({error.strerror or error}); free the space"
            ) from error

    def add_picture(self, picture: Any, step: int) -> None:
        """(H, W, 3) uint8."""
        if self._board is not None:
            self._board.add_image("samples", picture, step, dataformats="HWC")

    def close(self) -> None:
        """Draw the curve of what there is."""
        if self._board is None:
            return
        self._board.close()
        self._file.close()
        rows = read_losses(self._folder / f"{self._name}.csv")
        write_text(curve([(int(row["step"]), float(row["loss"])) for row in rows]), self._folder / f"{self._name}.svg")

    def _begin(self, step: Step) -> None:
        from torch.utils.tensorboard import SummaryWriter

        path = self._folder / f"{self._name}.csv"
        self._names = sorted(step.losses)
        kept = [row for row in read_losses(path) if int(row["step"]) < step.number] if path.is_file() else []
        lines = [",".join([row["step"], *(row.get(name, "") for name in self._names)]) for row in kept]
        write_text("\n".join([",".join(["step", *self._names]), *lines]) + "\n", path)
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(self._folder / "board" / self._name), purge_step=step.number)


def read_losses(path: Path) -> list[dict[str, str]]:
    """The whole lines of a CSV of losses; a last one that was cut is left out."""
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["step"].isdigit() and None not in row.values()]


def curve(losses: Sequence[tuple[int, float]]) -> str:
    """An SVG of (step, loss): means over spans of steps."""
    size = max(1, -(-len(losses) // POINTS))
    spans = [losses[start : start + size] for start in range(0, len(losses), size)]
    points = [(span[-1][0], sum(loss for _, loss in span) / len(span)) for span in spans]
    last = max((step for step, _ in points), default=1)
    low, high = min((y for _, y in points), default=0.0), max((y for _, y in points), default=1.0)
    reach = (high - low) or 1.0

    def place(step: int, loss: float) -> str:
        x = MARGIN + (WIDTH - 2 * MARGIN) * step / last
        return f"{x:.1f},{HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (loss - low) / reach:.1f}"

    line = " ".join(place(*point) for point in points)
    words = [
        (4, MARGIN, f"{high:.3g}"),
        (4, HEIGHT - MARGIN, f"{low:.3g}"),
        (WIDTH - 2 * MARGIN, HEIGHT - 12, f"step {last}"),
    ]
    texts = "".join(f'<text x="{x}" y="{y}">{text}</text>' for x, y, text in words)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>{texts}'
        f'<polyline points="{line}" fill="none" stroke="#2563eb" stroke-width="1.5"/></svg>\n'
    )
