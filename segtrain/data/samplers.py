"""Which samples of a source are drawn, where that is more than each once an epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from segkit.labels import LabelSpace
from segtrain.errors import DataError

# Tag that keeps the random streams of one seed apart.
_RARE = 7


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """A class that a crop should show on more than a share of its pixels; the last attempt is taken if none does."""

    channel: int
    min_share: float
    attempts: int


class RareClassSampler:
    """Rare class sampling (Hoyer et al., DAFormer, CVPR 2022, Rare Class Sampling; DGInStyle).

    With f_c the share of class c of all labelled pixels, P(c) = softmax((1 - f_c) / T). A class is drawn, then one of
    the images that show it on more than a share of their pixels, and its crop is to show it too. A class that no image
    shows so is never drawn.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        label_space: LabelSpace,
        where: str,
        temperature: float = 0.01,
        min_share: float = 0.0015,
        min_crop_share: float = 0.0057,
        attempts: int = 10,
    ) -> None:
        """`pixels` (samples, 256) of each id in each mask, as `class_pixels` counts them.

        Raises DataError naming `where` if no image shows any class of the label space.
        """
        counts = pixels[:, list(label_space.ids)]
        shares = counts / pixels.sum(axis=1, keepdims=True).clip(min=1)
        rows = [np.flatnonzero(shares[:, channel] > min_share) for channel in range(counts.shape[1])]
        self._channels = np.array([channel for channel, of_class in enumerate(rows) if len(of_class)])
        if not len(self._channels):
            raise DataError(
                f"{where}: none of {len(pixels)} images shows a class on more than {min_share:.4g} of its pixels, so "
                "rare class sampling finds none: lower --rcs-min-share, or set --rcs none"
            )
        self._rows = [rows[channel] for channel in self._channels]
        frequency = counts.sum(axis=0) / max(1, counts.sum())
        self.probability = _softmax((1 - frequency[self._channels]) / temperature)
        """Of the classes that can be drawn, by their order among the channels."""
        self.missing = [label.name for channel, label in enumerate(label_space.labels) if not len(rows[channel])]
        """Names of the classes that cannot."""
        self._wanted = [Wanted(int(channel), min_crop_share, attempts) for channel in self._channels]

    @property
    def channels(self) -> Sequence[int]:
        """Of the classes that can be drawn, ascending."""
        return tuple(self._channels.tolist())

    def rows_that_show(self, channel: int) -> np.ndarray:
        """(N,) int64, ascending: what is drawn for a class that can be drawn."""
        return self._rows[int(np.searchsorted(self._channels, channel))]

    def draw(self, key: tuple[int, ...]) -> tuple[int, Wanted]:
        """A row, and what its crop should show; a function of `key`."""
        rng = np.random.default_rng((key[0], _RARE, *key[1:]))
        number = int(np.searchsorted(np.cumsum(self.probability), rng.random() * self.probability.sum(), side="right"))
        number = min(number, len(self._rows) - 1)
        return int(rng.choice(self._rows[number])), self._wanted[number]


def _softmax(values: np.ndarray) -> np.ndarray:
    powers: np.ndarray = np.exp(values - values.max())
    return powers / powers.sum()
