"""A segmenter that says of each pixel how far it is from all that the network knows (MultiShiftSeg, eq. 2 and 3).

Beside the classifier W stands a second one of the same shape, W_o, a copy of W at first. The uncertainty is its
energy, u = up(-logsumexp_c(W_o phi)): the energy first, the upsampling second, so that a pixel between two cells has
the mean of their energies and not the energy of their mean. As long as W_o is W, u is the energy of the plain network
(Liu et al., Energy-based out-of-distribution detection, NeurIPS 2020). High = unlike what was learnt.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from segkit.errors import ModelError
from segkit.networks import smp
from segkit.printable import excerpt


def build(
    arguments: dict[str, Any], settings: dict[str, Any], encoder_weights: str | bool | None
) -> UncertaintyNetwork:
    """`arguments` are those of smp's network underneath; there are no settings. Raises ModelError."""
    if settings:
        raise ModelError(f"network 'uncertainty' takes no settings, not {excerpt(settings)}")
    return UncertaintyNetwork(smp.build(arguments, {}, encoder_weights))


class UncertainNetwork(nn.Module):
    """A network that says classes and uncertainty in one pass: `phi = features(images)`, then `logits(phi)` of
    (B, C, H, W) and `uncertainty(phi)` of (B, H, W), high = unknown. Its `uncertainty_head` serves the latter alone.
    """

    uncertainty_head: nn.Module

    def features(self, images: torch.Tensor) -> Any:
        """(B, 3, H, W) normalised to what both answers are made of."""
        raise NotImplementedError

    def logits(self, features: Any) -> torch.Tensor:
        """Whose argmax over classes is the answer."""
        raise NotImplementedError

    def uncertainty(self, features: Any) -> torch.Tensor:
        """float32."""
        raise NotImplementedError


class UncertaintyNetwork(UncertainNetwork):
    """Encoder and decoder of an smp network under a classifier and an uncertainty head.

    For both answers of one pass: `phi = features(images)`, then `logits(phi)` and `uncertainty(phi)`.
    """

    def __init__(self, network: Any) -> None:
        """`network` is any architecture of smp whose segmentation head is one convolution and an upsampling; its parts
        become those of this network. Raises ModelError for one with another head."""
        super().__init__()
        head = getattr(network, "segmentation_head", None)
        if not isinstance(head, nn.Sequential) or not isinstance(head[0], nn.Conv2d):
            raise ModelError(
                f"{type(network).__name__}: no uncertainty head goes on it, its classifier is not one convolution: "
                "take a network of smp such as DeepLabV3Plus, Unet or FPN"
            )
        self.encoder, self.decoder = network.encoder, network.decoder
        self.classifier, self.upsampling = head[0], head[1]
        self.uncertainty_head = copy.deepcopy(self.classifier)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) normalised to logits (B, C, H, W)."""
        return self.logits(self.features(images))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) normalised to phi, what the decoder gives, (B, D, h, w)."""
        decoded: torch.Tensor = self.decoder(self.encoder(images))
        return decoded

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """phi (B, D, h, w) to logits (B, C, H, W)."""
        scores: torch.Tensor = self.upsampling(self.classifier(features))
        return scores

    def uncertainty(self, features: torch.Tensor) -> torch.Tensor:
        """phi (B, D, h, w) to u (B, H, W) float32, unbounded, high = unknown."""
        energy = -torch.logsumexp(self.uncertainty_head(features).float(), dim=1, keepdim=True)
        spread: torch.Tensor = self.upsampling(energy)
        return spread[:, 0]


def with_uncertainty(network: nn.Module) -> UncertainNetwork:
    """The network itself if it has the head; a plain network of smp with a new head, so that u is its energy.

    The parts of a plain network are shared, not copied. Raises ModelError for a network of another kind.
    """
    return network if isinstance(network, UncertainNetwork) else UncertaintyNetwork(network)
