"""Inference with the few-shot network that segtrain trains (POP, Liu et al., CVPR 2023, section 3). Imports torch:

import this module inside `build`.

A pixel's feature q is split along the normalised prototypes s_k of the classes, q = sum_k (q . s_k) s_k + r, and a
bias-free classifier scores each part on its own; r is the background's. Novel classes, and with them the background,
have a classifier of their own. Parameter names are those of segtrain's files, its only contract with this module.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class PopNetwork(nn.Module):
    """Encoder and decoder of a segmentation_models_pytorch network under that classifier. Channels:

    background, base classes, novel classes.
    """

    def __init__(self, network: Any, num_base: int, num_novel: int) -> None:
        super().__init__()
        convolution, self.upsampling = network.segmentation_head[0], network.segmentation_head[1]
        width = convolution.in_channels
        self.encoder, self.decoder = network.encoder, network.decoder
        self.base_prototypes = nn.Parameter(torch.zeros(num_base, width))
        self.classifier = _classifier(width)
        if num_novel:
            self.novel_prototypes = nn.Parameter(torch.zeros(num_novel, width))
            self.novel_classifier = _classifier(width)
        self._num_base, self._num_novel = num_base, num_novel

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) normalised to logits (B, 1 + base + novel, H, W)."""
        features = self.decoder(self.encoder(images))
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            prototypes = (
                torch.cat([self.base_prototypes, self.novel_prototypes]) if self._num_novel else self.base_prototypes
            )
            directions = nn.functional.normalize(prototypes, dim=1)
            parts = torch.einsum("bdhw,kd->bkhw", features, directions)
            rest = features - torch.einsum("bkhw,kd->bdhw", parts, directions)
            last = self.novel_classifier if self._num_novel else self.classifier
            base, novel = directions[: self._num_base], directions[self._num_base :]
            scores = [last(rest), _scores(self.classifier, base, parts[:, : self._num_base])]
            if self._num_novel:
                scores.append(_scores(last, novel, parts[:, self._num_base :]))
            return self.upsampling(torch.cat(scores, dim=1))


def _scores(classifier: nn.Sequential, directions: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
    """(B, K, h, w): classifier(p s) of each direction s (K, D) and part p (B, K, h, w).

    Without bias it is |p| classifier(sign(p) s).
    """
    along, against = (classifier(signed[:, :, None, None]).view(1, -1, 1, 1) for signed in (directions, -directions))
    return parts.clamp(min=0) * along + (-parts).clamp(min=0) * against


def _classifier(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(width, width, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(width, 1, 1, bias=False),
    )
