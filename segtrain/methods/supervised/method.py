"""`segtrain train`: cross-entropy over the pixels that have a class."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from segkit.labels import OUT_OF_DISTRIBUTION
from segtrain.config import TrainConfig
from segtrain.data.batches import Batch
from segtrain.data.mixture import Mixture, open_sources
from segtrain.evaluate import open_validation
from segtrain.loop import Training, reports, run
from segtrain.method import StandardMethod, segmentation_loss
from segtrain.segmenter import Segmenter, build_segmenter

_log = logging.getLogger(__name__)


def train(config: TrainConfig) -> Path:
    """Train, or go on where a killed training stopped; returns the model's folder. Raises SegtrainError."""
    sources, label_space = open_sources(config)
    data = Mixture(sources, label_space, config)
    training = Training(
        config,
        reports(sources, data.planned_counts),
        label_space,
        build=lambda device: build_segmenter(config, label_space, device),
        validation=open_validation(config.validation, label_space) if config.validation else None,
        claims={"sources": [source.identity for source in sources]},
    )
    return run(training, Supervised(data, config))


class Supervised(StandardMethod):
    """Cross-entropy alone, or the loss that a mask network brings."""

    def loss(self, segmenter: Segmenter, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        targets = batch.targets.to(segmenter.device)
        labelled = (targets < OUT_OF_DISTRIBUTION).float().mean()
        return {"loss": segmentation_loss(segmenter, batch.images, targets), "labelled": labelled}

    def after_step(self, segmenter: Segmenter, batch: Batch, losses: dict[str, torch.Tensor], step: int) -> None:
        if step == 0 and not losses["labelled"]:
            _log.warning("no pixel of the first batch is labelled (all 254 or 255): nothing is learnt from it")
