"""POP:

features are split into their parts along orthogonal prototypes, and each part is classified on its own (Liu et al.,
CVPR 2023, section 3).

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

from segtrain.errors import ConfigError


class PopNetwork(nn.Module):
    """Encoder and decoder of an smp network under POP's classifier. Channels: background, base classes, novel classes."""

    def __init__(self, network: Any, num_base: int, num_novel: int = 0) -> None:
        """`network` is any architecture of smp with a segmentation head.

        Raises ConfigError if its features are too narrow for the classes.
        """
        super().__init__()
        convolution, upsampling = network.segmentation_head[0], network.segmentation_head[1]
        width = convolution.in_channels
        if num_base + num_novel > width:
            raise ConfigError(
                f"{num_base + num_novel} classes need as many orthogonal directions, and the features of this "
                f"decoder have {width} channels: "
                "take an architecture with more (FPN has 128, PSPNet 512)"
            )
        self.encoder, self.decoder, self.upsampling = network.encoder, network.decoder, upsampling
        self.num_base, self.num_novel = num_base, num_novel
        self.decoder_learns = False
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
            for part in self._frozen_parts():
                part.requires_grad_(False)
            self.base_prototypes.requires_grad_(False)

    def begin_novel(self, base: PopNetwork) -> None:
        """Take over what the base stage has learnt; the novel classifier starts as a copy of the base one."""
        learnt = base.state_dict()
        learnt |= {
            name.replace("classifier", "novel_classifier", 1): value
            for name, value in learnt.items()
            if name.startswith("classifier.")
        }
        self.load_state_dict({**self.state_dict(), **learnt})

    def let_decoder_learn(self) -> None:
        """In the novel stage, too. Not POP: its features stay fixed;

        with some hundred synthetic images there is enough to adapt them.
        """
        self.decoder_learns = True
        self.decoder.requires_grad_(True)

    def train(self, mode: bool = True) -> PopNetwork:
        """In the novel stage what is frozen keeps its batch statistics, too."""
        super().train(mode)
        if self.num_novel:
            for part in self._frozen_parts():
                part.eval()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) normalised to logits (B, 1 + base + novel, H, W)."""
        return self.upsampling(self.classify(self.features(images)))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(B, D, h, w): what the decoder gives."""
        learns = torch.is_grad_enabled()
        with torch.set_grad_enabled(learns and not self.num_novel):
            stages = self.encoder(images)
        with torch.set_grad_enabled(learns and (self.decoder_learns or not self.num_novel)):
            return self.decoder(stages)

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

    def mean_cosine(self) -> torch.Tensor:
        """Mean absolute cosine of each learnt prototype to the other ones, each pair once;

        0 if there is only one prototype.
        """
        directions = self.directions()
        cosines = directions @ directions.T
        pairs = torch.ones_like(cosines, dtype=torch.bool).triu(1)
        if self.num_novel:
            pairs[:, : self.num_base] = False  # two base prototypes, which are fixed
        return cosines[pairs].abs().mean() if pairs.any() else cosines.new_zeros(())

    def _frozen_parts(self) -> tuple[nn.Module, ...]:
        return (self.encoder, self.classifier) if self.decoder_learns else (self.encoder, self.decoder, self.classifier)


def _scores_of_parts(classifier: nn.Module, directions: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
    """classifier(p * s) for each direction s (K, D) and each projection p (B, K, h, w) on it; (B, K, h, w).

    Without bias and with ReLU, classifier(p s) = |p| classifier(sign(p) s): two evaluations a class do for all pixels,
    and give the same numbers.
    """
    with_sign = torch.cat([directions, -directions])[:, :, None, None]
    positive, negative = classifier(with_sign).view(2, 1, -1, 1, 1)
    return functional.relu(parts) * positive + functional.relu(-parts) * negative
