"""A training of segtrain that dies on the way, and what is left of one that does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import segtrain.loop
from segtrain.optimiser import learning_rate


class Killed(BaseException):
    """Stands for a kill: nothing in the trainer catches it."""


def kill_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """Die before the optimiser step `step`."""

    def rate(config: Any, now: int) -> float:
        if now == step:
            raise Killed
        return learning_rate(config, now)

    patch.setattr(segtrain.loop, "learning_rate", rate)


def weights(folder: Path) -> bytes:
    """The bytes of a finished model."""
    return (folder / "model.safetensors").read_bytes()


def curve(folder: Path, name: str) -> list[float]:
    """The points of a scalar in a training's TensorBoard log."""
    return [event.value for event in EventAccumulator(str(folder / "tensorboard")).Reload().Scalars(f"train/{name}")]
