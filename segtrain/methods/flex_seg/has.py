"""HAS, hardness-aware sampling: images that are hard now come more often, the more so the later it is.

Each image i has a hardness h_i, a moving average of its plain cross-entropy. Each step draws r in 0..1: if r >
threshold(t), the whole batch is drawn with p_i = softmax(h_i / tau), else it is the batch of the ordinary mixture.
Drawn so from the whole merged set it comes without rare class sampling; `within class` leaves source and class as the
mixture has drawn them, and is the softmax over the images that show that class.

Losses are gathered and folded into h every `has_update_every` steps, a chunk; a chunk is drawn from the table that was
folded one chunk before it began. So the batches of a chunk are known before it begins: any number of workers may read
ahead and draws the same, and the checkpoint holds all that a continued training needs.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from segtrain.errors import RunError
from segtrain.methods.flex_seg.config import HardnessSettings

# Tags that keep the random streams of one seed apart.
_WHETHER, _WHICH = 8, 9


def hard_share(settings: HardnessSettings, step: int, steps: int) -> float:
    """Probability that the batch of a step is drawn by hardness: 1 - threshold(t).

    t is the percentage of the training that is done, or counts `has_t_steps` steps as 1.
    """
    t = step / settings.has_t_steps if settings.has_t_steps else 100 * step / steps
    if settings.has_schedule == "sigmoid":
        # e^700 is nearly the greatest number there is: the share is 0 long before
        return 1 / (1 + math.exp(min(700.0, -settings.has_k * (t - settings.has_midpoint))))
    if settings.has_schedule == "linear":
        return min(1.0, step / steps)
    return 1.0 if settings.has_schedule == "always" else 0.0


class Table:
    """A distribution over images that is drawn from by bisection: some microseconds, however many there are."""

    def __init__(self, hardness: np.ndarray, temperature: float, standardise: bool) -> None:
        """`hardness` (N,) float32."""
        values = hardness.astype(np.float64)
        if standardise:
            values = (values - values.mean()) / (values.std() + 1e-6)
        values = (values - values.max()) / temperature
        np.exp(values, out=values)
        self._cumulative = np.cumsum(values, out=values)

    def draw(self, rng: np.random.Generator, number: int) -> np.ndarray:
        """(number,) int64, with replacement."""
        total = self._cumulative[-1]
        places = np.searchsorted(self._cumulative, rng.random(number) * total, side="right")
        return np.minimum(places, len(self._cumulative) - 1)


class Hardness:
    """The hardness of every image of all sources, one source after another, and what was seen since the last fold."""

    def __init__(self, sizes: Sequence[int], identities: Sequence[dict[str, Any]], settings: HardnessSettings) -> None:
        """Sizes and identities of the sources."""
        self._settings = settings
        self._starts = np.cumsum([0, *sizes])
        self._data = _fingerprint(identities)
        total = int(self._starts[-1])
        self._newest = np.zeros(total, dtype=np.float32)
        self._in_use = self._newest  # of the chunk that runs; the newest is that of the next one
        self._visited = np.zeros(total, dtype=bool)
        self._running_mean = 0.0
        self._sums, self._numbers = np.zeros(total, dtype=np.float32), np.zeros(total, dtype=np.int32)
        self._pending: list[tuple[np.ndarray, torch.Tensor, torch.Tensor]] = []
        self._folds = 0
        self._tables: dict[tuple[int, ...], Table] = {}  # by chunk and group of images

    @property
    def values(self) -> np.ndarray:
        """(images,) float32: the newest hardness."""
        return self._newest

    def draw(self, step: int, number: int, seed: int) -> list[tuple[int, int]]:
        """(source, row) of each image of a batch that is drawn by hardness.

        Asked for the running chunk and the next one only; a function of (seed, step) and the chunk's table.
        """
        images = self._table(step, (), slice(None)).draw(np.random.default_rng((seed, _WHICH, step)), number)
        sources = np.searchsorted(self._starts, images, side="right") - 1
        return list(zip(sources.tolist(), (images - self._starts[sources]).tolist(), strict=True))

    def draw_within(self, step: int, slot: int, source: int, channel: int, rows: np.ndarray, seed: int) -> int:
        """One of the `rows` (N,) of a source, drawn by hardness: those that show a channel, or with -1 all.

        Asked as `draw` is; a function of (seed, step, slot) and the chunk's table.
        """
        table = self._table(step, (source, channel), self._starts[source] + rows)
        [place] = table.draw(np.random.default_rng((seed, _WHICH, step, slot)), 1)
        return int(rows[place])

    def _table(self, step: int, group: tuple[int, ...], images: np.ndarray | slice) -> Table:
        """Over the images of a group."""
        chunk = step // self._settings.has_update_every
        assert chunk in (self._folds, self._folds + 1), f"chunk {chunk} is read ahead in chunk {self._folds}"
        if (chunk, *group) not in self._tables:
            hardness = (self._in_use if chunk == self._folds else self._newest)[images]
            table = Table(hardness, self._settings.has_temperature, self._settings.has_standardise)
            self._tables[chunk, *group] = table
        return self._tables[chunk, *group]

    def is_hard(self, step: int, steps: int, seed: int) -> bool:
        """Whether the batch of that step is drawn by hardness."""
        r = float(np.random.default_rng((seed, _WHETHER, step)).random())
        return r > 1 - hard_share(self._settings, step, steps)

    def see(self, sources: np.ndarray, rows: np.ndarray, losses: torch.Tensor, labelled: torch.Tensor) -> None:
        """The plain losses (B,) of a batch's images; those with no labelled pixel (bool, B) have none.

        They stay on the device until they are needed.
        """
        self._pending.append((self._starts[sources] + rows, losses.detach(), labelled))

    def fold(self, done: int) -> None:
        """After step `done`, counted from 1: at the end of a chunk, h <- ema h + (1 - ema) mean loss of the image.

        An image that was never seen has the running mean of all that were.
        """
        if done % self._settings.has_update_every:
            return
        self._gather()
        seen = np.flatnonzero(self._numbers)
        self._in_use, hardness = self._newest, self._newest.copy()
        if len(seen):
            losses = self._sums[seen] / self._numbers[seen]
            ema, mean = self._settings.has_ema, float(losses.mean())
            self._running_mean = ema * self._running_mean + (1 - ema) * mean if self._visited.any() else mean
            before = np.where(self._visited[seen], hardness[seen], self._running_mean)
            hardness[seen] = ema * before + (1 - ema) * losses
            self._visited[seen] = True
            hardness[~self._visited] = self._running_mean
        self._newest = hardness
        self._sums[seen], self._numbers[seen] = 0, 0
        self._folds += 1
        self._tables = {key: table for key, table in self._tables.items() if key[0] >= self._folds}

    def state(self) -> dict[str, torch.Tensor]:
        self._gather()
        return {
            "data": torch.from_numpy(self._data),
            "newest": torch.from_numpy(self._newest),
            "in_use": torch.from_numpy(self._in_use),
            "visited": torch.from_numpy(self._visited),
            "sums": torch.from_numpy(self._sums),
            "numbers": torch.from_numpy(self._numbers),
            "running_mean": torch.tensor(self._running_mean, dtype=torch.float64),
            "folds": torch.tensor(self._folds),
        }

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Raises RunError if it is of other data."""
        arrays = {name: tensor.cpu().numpy() for name, tensor in state.items()}
        if not np.array_equal(arrays["data"], self._data) or len(arrays["newest"]) != self._starts[-1]:
            raise RunError(
                f"hardness table of the checkpoint: is of other data ({len(arrays['newest'])} images, --data has "
                f"{self._starts[-1]}): train with its data, or remove checkpoint.pt to train from the start"
            )
        self._newest, self._in_use = arrays["newest"], arrays["in_use"]
        self._visited, self._sums, self._numbers = arrays["visited"], arrays["sums"], arrays["numbers"]
        self._running_mean, self._folds = float(arrays["running_mean"]), int(arrays["folds"])
        self._tables.clear()

    def _gather(self) -> None:
        """Add what is pending to the buffer, in the order of the steps."""
        for images, losses, labelled in self._pending:
            counted = labelled.cpu().numpy()
            np.add.at(self._sums, images[counted], losses.float().cpu().numpy()[counted])
            np.add.at(self._numbers, images[counted], 1)
        self._pending.clear()


def _fingerprint(identities: Sequence[dict[str, Any]]) -> np.ndarray:
    """(32,) uint8 of what the sources hold, wherever they lie."""
    return np.frombuffer(hashlib.sha256(json.dumps(list(identities)).encode()).digest(), dtype=np.uint8).copy()
