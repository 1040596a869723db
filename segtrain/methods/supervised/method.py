"""`segtrain train`: cross-entropy over the pixels that have a class."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch

from segkit.labels import OUT_OF_DISTRIBUTION, LabelSpace
from segtrain.config import MASK_ARCH, TrainConfig
from segtrain.data.batches import Batch
from segtrain.data.mixture import Mixture, first_steps, in_turn, open_sources, shares, space_of_folders
from segtrain.data.rare_classes import rare_classes
from segtrain.data.source import Source
from segtrain.errors import ConfigError
from segtrain.evaluate import open_validation
from segtrain.loop import Training, reports, run
from segtrain.losses import kept_pixels, mean_over, pixel_losses
from segtrain.method import StandardMethod, segmentation_loss
from segtrain.methods.supervised.comparison import compare
from segtrain.methods.supervised.config import Config
from segtrain.segmenter import Segmenter, build_segmenter

_log = logging.getLogger(__name__)


def train(config: TrainConfig) -> Path:
    """Train, or go on where a killed training stopped; returns the model's folder. Raises SegtrainError.

    A plain TrainConfig is one whose labels all count alike.
    """
    own = config if isinstance(config, Config) else Config.model_validate(config.model_dump())
    out = _train(own)
    if own.compare and own.validation and not own.dry_run:
        alone = own.of_first_alone()
        _train(alone, space_of_folders(own))  # the first --data may have its classes from another one
        compare(out, alone.out, own.validation, own.device)
    return out


def _train(config: Config, folder_space: LabelSpace | None = None) -> Path:
    if config.arch == MASK_ARCH and (config.confidence != "ignore" or config.keep < 1):
        raise ConfigError(
            f"arch {MASK_ARCH}: its loss is one of masks, not of pixels: leave out --confidence and --keep"
        )
    sources, label_space = open_sources(config, folder_space)
    rare = rare_classes(sources, label_space, config)
    data = Mixture(
        sources, label_space, config, confidence=config.confidence != "ignore", rare=rare, mixed=order(sources, config)
    )
    training = Training(
        config,
        reports(sources, data.planned_counts),
        label_space,
        build=lambda device: build_segmenter(config, label_space, device),
        validation=open_validation(config.validation, label_space) if config.validation else None,
        claims={"sources": [source.identity for source in sources]},
    )
    return run(training, Supervised(data, config))


def order(sources: list[Source], config: Config) -> np.ndarray:
    """(steps, batch) uint8 numbers of sources: the mix, after the first one alone for `first_share` of the steps; or
    all others for `others_first` of them, then the first alone.
    """
    share = shares(sources, config)
    begin = config.first_share or config.others_first
    begins = first_steps(begin, config.steps) if begin else 0
    first = np.eye(1, len(share))[0]
    others = share * (1 - first)
    before, after = (others / others.sum(), first) if config.others_first else (first, share)
    return in_turn([(before, begins), (after, config.steps - begins)], config.batch_size)


class Supervised(StandardMethod):
    """Cross-entropy, of labels that may be unsure, or the loss that a mask network brings."""

    def __init__(self, data: Mixture, config: Config) -> None:
        super().__init__(data, config)
        self._own = config

    def loss(self, segmenter: Segmenter, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        targets = batch.targets.to(segmenter.device)
        labelled = (targets < OUT_OF_DISTRIBUTION).float().mean()
        if self._own.confidence == "ignore" and self._own.keep == 1:
            return {"loss": segmentation_loss(segmenter, batch.images, targets), "labelled": labelled}
        weights = pixel_weights(batch, self._own).to(segmenter.device)
        others = torch.from_numpy(batch.sources > 0).to(segmenter.device)
        loss = unsure_cross_entropy(segmenter.logits(batch.images), targets, weights, others, self._own.keep)
        return {
            "loss": loss,
            "labelled": labelled,
            "weight": weights[targets < OUT_OF_DISTRIBUTION].sum() / weights.numel(),
        }

    def after_step(self, segmenter: Segmenter, batch: Batch, losses: dict[str, torch.Tensor], step: int) -> None:
        if step == 0 and not losses["labelled"]:
            _log.warning("no pixel of the first batch is labelled (all 254 or 255): nothing is learnt from it")


def pixel_weights(batch: Batch, config: Config) -> torch.Tensor:
    """(B, H, W) float32 in 0..1: what each pixel's label counts."""
    if batch.confidence is None:
        return torch.ones(batch.targets.shape)
    if config.confidence == "threshold":
        return (batch.confidence >= 255 * config.confidence_threshold).float()
    return batch.confidence.float() / 255


def unsure_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, others: torch.Tensor, keep: float
) -> torch.Tensor:
    """Sum of weighted losses over the number of labelled pixels that are learnt from; a scalar, 0 if there is none.

    `logits` (B, C, H, W), `targets` (B, H, W) with 254 and 255, `weights` (B, H, W), `others` (B,) bool: crops of which
    the `keep` share of pixels of smallest loss is learnt from. What is unsure makes the loss smaller, not another
    pixel's share of it larger.
    """
    losses, valid = pixel_losses(logits, targets)
    learnt = valid & ~others[:, None, None]
    chosen = kept_pixels(losses, valid & others[:, None, None], keep)
    learnt.view(-1)[chosen] = True
    return mean_over(losses * weights * learnt, learnt)
