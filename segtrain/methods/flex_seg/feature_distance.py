"""Thing-class feature distance (Hoyer et al., DAFormer, CVPR 2022): the encoder stays near ImageNet on things.

Mean Euclidean distance between the last map of the learning encoder and that of a frozen one with the weights that
--encoder-weights names, over the cells of the map in which one thing class covers most pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from segkit.networks import smp


class FrozenEncoder:
    """A copy of the encoder of a network of smp, as it is now; it never learns and is in no checkpoint."""

    def __init__(self, network: Any) -> None:
        self._network = nn.Module()
        self._network.encoder = copy.deepcopy(network.encoder).eval().requires_grad_(False)

    @torch.no_grad()
    def last_map(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) normalised to (B, D, h, w)."""
        return smp.encode(self._network, pixels)[-1]


def feature_distance(ours: torch.Tensor, frozen: torch.Tensor, of_things: torch.Tensor) -> torch.Tensor:
    """Two maps (B, D, h, w) and which cells (B, h, w) count, to the mean distance; 0 if none counts."""
    difference = ours.float() - frozen.float()
    squared = difference.square().sum(dim=1)
    # The root has no gradient at 0, where both are the same: as they are before the first step.
    distance = torch.where(squared > 0, squared.clamp(min=1e-24).sqrt(), 0.0)
    return (distance * of_things).sum() / of_things.sum().clamp(min=1)


def thing_cells(
    targets: torch.Tensor, size: tuple[int, int], things: Sequence[int], num_classes: int, majority: float
) -> torch.Tensor:
    """(B, H, W) targets to (B, h, w) bool: the cells of which one thing class covers at least `majority`.

    Unlabelled pixels count as covered by no class.
    """
    classes = torch.where(targets < num_classes, targets.long(), num_classes)
    shares = torch.stack([(classes == thing).float() for thing in things], dim=1)
    shares = functional.adaptive_avg_pool2d(shares, size)
    return (shares >= majority).any(dim=1)
