"""What stage 2 learns beside the uncertainty: the segmentation losses of the pixel model and of the mask model."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from segkit.networks.mask2former import MaskNetwork
from segkit.networks.uncertainty import UncertainNetwork
from segtrain.losses import cross_entropy, pixel_losses, small_loss
from segtrain.methods.multi_shift.config import Config
from segtrain.methods.multi_shift.mask_losses import mask_losses, matcher_of


class Segmentation(Protocol):
    """Terms by name, unweighted, and their weights: what is not named there is only logged."""

    weights: dict[str, float]

    def terms(self, features: Any, original: torch.Tensor, augmented: torch.Tensor) -> dict[str, torch.Tensor]:
        """`features` are those of the originals and then of the augmented pictures, `original` and `augmented` the
        targets (B, H, W) of each half."""
        ...


class PixelSegmentation:
    """Cross-entropy over the labelled pixels of the originals, and over those of smallest loss of the others."""

    def __init__(self, network: UncertainNetwork, config: Config) -> None:
        self._network, self._keep = network, config.keep
        self.weights = {
            "ce_original": config.stage2(False).original_weight,
            "ce_augmented": config.augmented_weight,
        }

    def terms(self, features: Any, original: torch.Tensor, augmented: torch.Tensor) -> dict[str, torch.Tensor]:
        """Of all pictures' pixels together."""
        logits, number = self._network.logits(features).float(), len(original)
        pixels, labelled = pixel_losses(logits[number:], augmented)
        return {
            "ce_original": cross_entropy(logits[:number], original),
            "ce_augmented": small_loss(pixels, labelled, self._keep),
        }


class MaskSegmentation:
    """Class, mask and dice losses of matched queries (`mask_losses`)."""

    def __init__(self, network: MaskNetwork, config: Config) -> None:
        self._config, self._no_object_weight = config, float(network.network.config.no_object_weight)
        self._matcher = matcher_of(network.network.config, config.mask_points)
        self.weights = {
            "class_original": config.class_weight,
            "class_augmented": config.class_weight,
            **{f"{what}_original": config.stage2(True).original_weight for what in ("mask", "dice")},
            **{f"{what}_augmented": config.augmented_weight for what in ("mask", "dice")},
        }

    def terms(self, features: Any, original: torch.Tensor, augmented: torch.Tensor) -> dict[str, torch.Tensor]:
        """Selection in the augmented half alone."""
        number, found = len(original), dict[str, torch.Tensor]()
        for name, rows, targets, keep in (
            ("original", slice(0, number), original, 1.0),
            ("augmented", slice(number, None), augmented, self._config.keep),
        ):
            losses = mask_losses(
                features,
                rows,
                targets,
                self._matcher,
                points=self._config.mask_points,
                keep=keep,
                no_object_weight=self._no_object_weight,
            )
            found |= {f"{what}_{name}": value for what, value in losses.items()}
        return found


def segmentation_of(network: UncertainNetwork, config: Config) -> Segmentation:
    """The losses that go with the network."""
    return MaskSegmentation(network, config) if isinstance(network, MaskNetwork) else PixelSegmentation(network, config)
