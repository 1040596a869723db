"""Losses that several methods share. All take targets with 254 and 255 in them and give 0, not nan, on empty sets."""

from __future__ import annotations

import torch

from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over the pixels that have a class; a scalar, 0 if there is none, where torch's own mean would be nan.

    `logits` (B, C, H, W) float32; `targets` (B, H, W) of channels 0..C-1, 254 and 255 count for nothing.
    """
    targets = without_unknown(targets)
    total = torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")
    return total / (targets != IGNORE).sum().clamp(min=1)


def without_unknown(targets: torch.Tensor) -> torch.Tensor:
    """int64 targets in which out of distribution (254) has become unlabelled (255)."""
    return targets.long().masked_fill(targets == OUT_OF_DISTRIBUTION, IGNORE)


def mean_or_zero(values: torch.Tensor) -> torch.Tensor:
    """The mean of all values; of none 0, which a gradient can go through."""
    return values.sum() / max(1, values.numel())
