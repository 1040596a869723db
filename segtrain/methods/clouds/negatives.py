"""Pixels that no mask covers as background of every mask: CLOUDS' targets of a mask model, for one class a pixel."""

from __future__ import annotations

import torch

from segtrain.methods.clouds.sam_labels import NONE_OF_THESE


def none_of_the_present(logits: torch.Tensor, channels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of -log(1 - sum of p_c over the classes with a mask in the crop) over its pixels of NONE_OF_THESE, and their
    number.

    `logits` (U, C, H, W), `channels` (U, H, W). A crop in which every class has a mask says nothing and counts 0.
    """
    classes = logits.shape[1]
    present = torch.stack([(channels == channel).flatten(1).any(dim=1) for channel in range(classes)], dim=1)
    counted = (channels == NONE_OF_THESE) & ~present.all(dim=1)[:, None, None]
    hidden = present & ~present.all(dim=1, keepdim=True)  # nothing would be left of a crop that has them all
    others = logits.masked_fill(hidden[:, :, None, None], float("-inf"))
    losses = torch.logsumexp(logits, dim=1) - torch.logsumexp(others, dim=1)
    return (losses * counted).sum(), counted.sum()
