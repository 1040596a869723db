"""POP (Liu et al., CVPR 2023, section 3): a pixel's feature is split along orthogonal prototypes of the classes.

A pixel's feature q (D,) is projected on each normalised prototype s_k; what is left over is its background part: q =
sum_k (q . s_k) s_k + r. A classifier without bias (three 1x1 convolutions, ReLU between them) gives a score to each
part. Novel classes get prototypes and a copy of the classifier of their own, so what was learnt of the base classes
stays as it is.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from segkit.errors import ModelError
from segkit.networks import smp
from segkit.printable import excerpt


def build(arguments: dict[str, Any], settings: dict[str, Any], encoder_weights: str | bool | None) -> PopNetwork:
    """`arguments` are those of smp's network underneath; `settings` are num_base and num_novel, numbers of classes.

    Raises ModelError.
    """
    num_base, num_novel = settings.get("num_base"), settings.get("num_novel")
    if set(settings) != {"num_base", "num_novel"} or not isinstance(num_base, int) or not isinstance(num_novel, int):
        raise ModelError(f"network 'pop': settings must be num_base and num_novel, not {excerpt(settings)}")
    if num_base < 1 or num_novel < 0 or 1 + num_base + num_novel != arguments["classes"]:
        raise ModelError(
            f"network 'pop': background, {excerpt(num_base)} base and {excerpt(num_novel)} novel classes, but "
            f"classes = {arguments['classes']}"
        )
    return PopNetwork(smp.build(arguments, {}, encoder_weights), num_base, num_novel)


class PopNetwork(nn.Module):
    """Encoder and decoder of an smp network under POP's classifier. Channels: background, base and novel classes."""

    def __init__(self, network: Any, num_base: int, num_novel: int = 0) -> None:
        """`network` is any architecture of smp with a segmentation head.

        Raises ModelError if its features are too narrow for the classes.
        """
        super().__init__()
        convolution, upsampling = network.segmentation_head[0], network.segmentation_head[1]
        width = convolution.in_channels
        if num_base + num_novel > width:
            raise ModelError(
                f"{num_base + num_novel} classes need as many orthogonal directions, and the features of this "
                f"decoder have {width} channels: take an architecture with more (FPN has 128, PSPNet 512)"
            )
        self.encoder, self.decoder, self.upsampling = network.encoder, network.decoder, upsampling
        self.num_base, self.num_novel = num_base, num_novel
        self.base_prototypes = nn.Parameter(nn.init.orthogonal_(torch.empty(num_base, width)))
        self.classifier = nn.Sequential(
            nn.Conv2d(width, width, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(width, width, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(width, 1, 1, bias=False),
        )
        if num_novel:
            self.novel_prototypes = nn.Parameter(nn.init.orthogonal_(torch.empty(num_novel, width)))
            self.novel_classifier = copy.deepcopy(self.classifier)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) normalised to logits (B, 1 + base + novel, H, W)."""
        return self.upsampling(self.classify(self.features(images)))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) normalised to what the decoder gives, (B, D, h, w)."""
        decoded: torch.Tensor = self.decoder(self.encoder(images))
        return decoded

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """(B, D, h, w) to logits (B, 1 + base + novel, h, w), in float32."""
        # Half precision would spoil the orthogonality.
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            directions = self.directions()
            parts = torch.einsum("bdhw,kd->bkhw", features, directions)
            rest = features - torch.einsum("bkhw,kd->bdhw", parts, directions)
            last = self.novel_classifier if self.num_novel else self.classifier
            logits = [
                last(rest),
                _scores_of_parts(self.classifier, directions[: self.num_base], parts[:, : self.num_base]),
            ]
            if self.num_novel:
                logits.append(_scores_of_parts(last, directions[self.num_base :], parts[:, self.num_base :]))
            return torch.cat(logits, dim=1)

    def directions(self) -> torch.Tensor:
        """(base + novel, D): the normalised prototypes."""
        prototypes = (
            torch.cat([self.base_prototypes, self.novel_prototypes]) if self.num_novel else self.base_prototypes
        )
        return functional.normalize(prototypes.float(), dim=1)


def _scores_of_parts(classifier: nn.Module, directions: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
    """classifier(p * s) for each direction s (K, D) and each projection p (B, K, h, w) on it; (B, K, h, w).

    Without bias and with ReLU, classifier(p s) = |p| classifier(sign(p) s): two evaluations a class do for all pixels,
    and give the same numbers.
    """
    with_sign = torch.cat([directions, -directions])[:, :, None, None]
    positive, negative = classifier(with_sign).view(2, 1, -1, 1, 1)
    return functional.relu(parts) * positive + functional.relu(-parts) * negative
