"""Noise-aware selection (MultiShiftSeg, eq. 5): where picture and label disagree, the loss is large from early on."""

from __future__ import annotations

import math

import torch

from segtrain.losses import mean_or_zero


def small_loss(losses: torch.Tensor, valid: torch.Tensor, keep: float) -> torch.Tensor:
    """Mean of the k = floor(keep * number of valid pixels) smallest losses; a scalar, 0 if k is 0.

    `losses` (B, H, W) of each pixel, `valid` (B, H, W) bool; the pixels of all pictures are one pool, so that a picture
    that is wrong altogether may lose more than its share. `keep` in 0..1; 1 = no selection.
    """
    return mean_or_zero(losses.flatten()[kept_pixels(losses, valid, keep)])


def kept_pixels(losses: torch.Tensor, valid: torch.Tensor, keep: float) -> torch.Tensor:
    """(k,) int64: which pixels of the flattened (B, H, W) are kept."""
    places = torch.nonzero(valid.flatten())[:, 0]
    count = math.floor(keep * len(places) + 1e-9)  # 0.29 * 100 is 28.999999999999996
    smallest = torch.topk(losses.detach().flatten()[places], count, largest=False, sorted=False).indices
    return places[smallest]
