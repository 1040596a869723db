"""Settings of `segtrain train`."""

from __future__ import annotations

from segtrain.config import TrainConfig


class Config(TrainConfig):
    """Train a segmenter, or go on where a killed training of the same settings stopped.

    segtrain train --data made --data photos --ratio 1 --ratio 1 --out model
    """


COMMANDS = {"train": Config}
