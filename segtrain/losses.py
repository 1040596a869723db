"""Losses that several methods share. All take targets with 254 and 255 in them and give 0, not nan, on empty sets."""

from __future__ import annotations

import math

import torch

from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over the pixels that have a class; a scalar, 0 if there is none, where torch's own mean would be nan.

    `logits` (B, C, H, W) float32; `targets` (B, H, W) of channels 0..C-1, 254 and 255 count for nothing.
    """
    targets = without_unknown(targets)
    total = torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")
    return total / (targets != IGNORE).sum().clamp(min=1)


def pixel_losses(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, C, H, W) and (B, H, W) to cross-entropies (B, H, W), 0 where a pixel has no class, and which have one."""
    targets = without_unknown(targets)
    losses = torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="none")
    return losses, targets != IGNORE


def mean_over(losses: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Sum of all losses over the number of pixels that count; 0 if none does."""
    return losses.sum() / counted.sum().clamp(min=1)


def without_unknown(targets: torch.Tensor) -> torch.Tensor:
    """int64 targets in which out of distribution (254) has become unlabelled (255)."""
    return targets.long().masked_fill(targets == OUT_OF_DISTRIBUTION, IGNORE)


def mean_or_zero(values: torch.Tensor) -> torch.Tensor:
    """The mean of all values; of none 0, which a gradient can go through."""
    return values.sum() / max(1, values.numel())


def small_loss(losses: torch.Tensor, valid: torch.Tensor, keep: float) -> torch.Tensor:
    """Noise-aware selection (MultiShiftSeg, eq. 5): where picture and label disagree, the loss is large from early on.

    Mean of the k = floor(keep * number of valid pixels) smallest losses; a scalar, 0 if k is 0.

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
