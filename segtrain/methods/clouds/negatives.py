"""Pixels that no mask covers as background of every mask: CLOUDS' targets of a mask model, for one class a pixel."""

from __future__ import annotations

import torch

from segtrain.methods.clouds.sam_labels import NONE_OF_THESE


def present_in(channels: torch.Tensor, classes: int) -> torch.Tensor:
    """(U, C) bool: which classes have a mask in each of (U, H, W) channels."""
    return torch.stack([(channels == channel).flatten(1).any(dim=1) for channel in range(classes)], dim=1)


def none_of_the_present(
    logits: torch.Tensor, channels: torch.Tensor, weights: torch.Tensor, present: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted sum of -log(1 - sum of p_c over the classes with a mask in the crop) over its pixels of NONE_OF_THESE,
    and their number.

    `logits` (U, C, H, W), `channels` and `weights` (U, H, W), `present` (U, C): of the crop's own picture, since what
    was pasted into it says nothing of its masks. A crop in which every class has a mask says nothing and counts 0.
    """
    counted = (channels == NONE_OF_THESE) & ~present.all(dim=1)[:, None, None]
    hidden = present & ~present.all(dim=1, keepdim=True)  # nothing would be left of a crop that has them all
    others = logits.masked_fill(hidden[:, :, None, None], float("-inf"))
    losses = torch.logsumexp(logits, dim=1) - torch.logsumexp(others, dim=1)
    return (losses * weights * counted).sum(), counted.sum()
