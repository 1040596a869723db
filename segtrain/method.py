"""What a training method may change. `segtrain/loop.py` knows no more of one than this.

A method is a folder of `segtrain/methods/`: `__init__.py` says in a line what it is and, in `COMMANDS`, which commands
it brings, each with the class of `config.py` that has its settings; `method.py` has `train(config)`, which wires its
components and hands them to the loop; the other files are the components, under the paper's names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import nn

from segtrain.config import LoopConfig
from segtrain.data.batches import Batch, StepBatches, batches
from segtrain.losses import cross_entropy
from segtrain.optimiser import Group
from segtrain.segmenter import Segmenter

__all__ = ["Batch", "Group", "Method", "StandardMethod", "has_own_loss", "segmentation_loss"]


class Method(Protocol):
    """The part of a training that a paper is about. Everything must be a function of (seed, step) and of `state`."""

    def batches(self, first_step: int) -> Iterator[Batch]:
        """The batches of the steps from `first_step` on, made when they are asked for.

        A batch may depend on what was learnt only through what `state` gives at its step. Raises SegtrainError.
        """
        ...

    def loss(self, segmenter: Segmenter, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        """Scalars by name: `loss` is minimised, all are logged. Not under autocast; `segmenter.logits` has its own."""
        ...

    def groups(self, network: nn.Module, step: int) -> Sequence[Group]:
        """Which parameters learn at this step, and how fast; asked before each step, so that stages are possible."""
        ...

    def after_step(self, segmenter: Segmenter, batch: Batch, losses: dict[str, torch.Tensor], step: int) -> None:
        """After the optimiser's step: moving averages, prototype banks, hardness. `losses` are detached."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """What the method has gathered, for the checkpoint."""
        ...

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        """Go on from what `state` gave. Called once, before `batches`, if there is a checkpoint."""
        ...

    def pictures(self, step: int) -> Mapping[str, np.ndarray]:
        """Pictures (H, W, 3) uint8 RGB by name of what was done at this step, asked for after it; mostly none."""
        ...


def segmentation_loss(segmenter: Segmenter, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, or the network's own loss if it has one (`mask_loss`).

    `images` (B, 3, H, W) uint8, `targets` (B, H, W) uint8 or int64 channels with 254 and 255, on the device.
    """
    if not has_own_loss(segmenter.network):
        return cross_entropy(segmenter.logits(images), targets)
    pixels = segmenter.normalised(images)
    with torch.autocast(segmenter.device.type, torch.bfloat16, enabled=segmenter.bfloat16):
        loss: torch.Tensor = segmenter.network.mask_loss(pixels, targets.long())  # type: ignore[operator]
    return loss


def has_own_loss(network: nn.Module) -> bool:
    return hasattr(network, "mask_loss")


class StandardMethod:
    """A method that draws its batches beforehand, trains everything at one rate and remembers nothing.

    Others override what they do in another way; `loss` is each one's own.
    """

    def __init__(self, data: StepBatches, config: LoopConfig) -> None:
        self._data, self._config = data, config

    def batches(self, first_step: int) -> Iterator[Batch]:
        return batches(self._data, first_step, self._config.num_workers)

    def groups(self, network: nn.Module, step: int) -> Sequence[Group]:
        """Everything that the network does not itself hold."""
        frozen, clip = getattr(network, "frozen", ()), getattr(network, "gradient_clip", None)
        return (*(Group((pattern,), frozen=True) for pattern in frozen), Group(clip=clip))

    def after_step(self, segmenter: Segmenter, batch: Batch, losses: dict[str, torch.Tensor], step: int) -> None:
        return None

    def state(self) -> dict[str, torch.Tensor]:
        return {}

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        return None

    def pictures(self, step: int) -> Mapping[str, np.ndarray]:
        return {}
