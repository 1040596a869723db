"""`segtrain multi-shift`: a trained segmenter learns to be uncertain of objects, and not of weather (MultiShiftSeg).

L = L_unc in stage 1 (the uncertainty head alone), L_unc + b1 L_seg_original + b2 L_seg_augmented in stage 2 (eq. 6).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segkit.labels import IGNORE, LabelSpace
from segkit.networks.uncertainty import UncertainNetwork
from segtrain.data.batches import Batch, StepBatches
from segtrain.data.formats import open_dataset
from segtrain.data.pairs import PairBatches, open_pairs
from segtrain.data.source import Source
from segtrain.evaluate import open_validation
from segtrain.loop import Training, reports, run
from segtrain.method import StandardMethod
from segtrain.methods.multi_shift.anomaly_mix import MixedBatches, ObjectBank
from segtrain.methods.multi_shift.config import Config
from segtrain.methods.multi_shift.relative_contrast import Half, Margins, pooled_contrast, relative_contrast
from segtrain.methods.multi_shift.segmentation import Segmentation, segmentation_of
from segtrain.methods.multi_shift.uncertainty import (
    MASK_MODEL,
    both_images,
    features_and_uncertainty,
    halves_of,
    margins_of,
    measured_levels,
    read_base,
    stage_groups,
    with_learnable_head,
)
from segtrain.optimiser import Group, assign
from segtrain.segmenter import Segmenter

_log = logging.getLogger(__name__)


def train(config: Config) -> Path:
    """Train, or go on where a killed training stopped, in either stage; returns the model's folder.

    Raises SegtrainError.
    """
    label_space, arch = read_base(config.base)
    sources = open_pairs(config.data, label_space)
    object_sources = _open_objects(config, label_space)
    bank = ObjectBank(object_sources or sources, label_space, config) if config.anomaly_mix else None
    pairs = PairBatches(sources, label_space, config, config.most_original)
    data = MixedBatches(pairs, bank, config)
    _log.info("%d originals with %d augmented pictures", pairs.num_originals, sum(sum(s.group_sizes) for s in sources))
    facts: dict[str, Any] = {}
    training = Training(
        config,
        reports(sources, data.planned_counts),
        label_space,
        build=lambda device: _begun(config, arch, device),
        validation=open_validation(config.validation, label_space) if config.validation else None,
        claims={
            "sources": [source.identity for source in sources],
            "objects": [source.identity for source in object_sources],
            "base_model": hashlib.sha256((config.base / "model.safetensors").read_bytes()).hexdigest(),
        },
        facts=facts,
    )
    return run(training, MultiShift(data, config, arch, facts))


def _begun(config: Config, arch: str, device: torch.device) -> Segmenter:
    """The network to begin with. What is to be frozen in stage 2 is looked for now, not after hours of stage 1."""
    segmenter = with_learnable_head(config.base, device)
    assert isinstance(segmenter.network, UncertainNetwork)
    for stage in (1, 2):
        assign(segmenter.network, stage_groups(segmenter.network, arch, config, stage))
    return segmenter


class MultiShift(StandardMethod):
    """Two stages; the margins are measured before the first step and then stay.

    `arch` is the architecture of the base network; `facts` takes what the model's config.json is to keep.
    """

    def __init__(self, data: StepBatches, config: Config, arch: str, facts: dict[str, Any]) -> None:
        super().__init__(data, config)
        self._settings, self._steps, self._arch, self._facts = config, data, arch, facts
        self._margins: Margins | None = None
        self._last_stage = 0
        self._segmentation: Segmentation | None = None
        self._stage1_steps = config.stage1_steps(arch == MASK_MODEL)
        if config.fixed_margins:
            self._set_margins(Margins(*config.fixed_margins))

    def groups(self, network: nn.Module, step: int) -> Sequence[Group]:
        assert isinstance(network, UncertainNetwork)
        return stage_groups(network, self._arch, self._settings, self._stage(step))

    def loss(self, segmenter: Segmenter, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        network, config, stage = segmenter.network, self._settings, self._stage(step)
        assert isinstance(network, UncertainNetwork)
        if self._margins is None:
            first = (self._steps.batch(number) for number in range(min(config.margin_batches, config.steps)))
            self._set_margins(margins_of(measured_levels(segmenter, first)))
        if stage != self._last_stage:
            self._report_stage(segmenter.network, stage)
        features, uncertainty = features_and_uncertainty(segmenter, both_images(batch))
        original, augmented = halves_of(batch, uncertainty)
        terms = self._contrast(original, augmented)
        losses = {"loss": sum(terms.values(), uncertainty.new_zeros(())), **terms}
        if stage == 2:
            if self._segmentation is None:
                self._segmentation = segmentation_of(network, config)
            with torch.autocast(segmenter.device.type, torch.bfloat16, enabled=segmenter.bfloat16):
                losses |= self._segmentation.terms(features, original.targets, augmented.targets)
            for name, weight in self._segmentation.weights.items():
                losses["loss"] = losses["loss"] + weight * losses[name]
        unknown = torch.cat([original.unknown, augmented.unknown]).float().mean()
        return {**losses, "unknown": unknown, "labelled": (batch.targets != IGNORE).float().mean()}

    def after_step(self, segmenter: Segmenter, batch: Batch, losses: dict[str, torch.Tensor], step: int) -> None:
        if step == 0 and not losses["unknown"]:
            _log.warning("no pixel of the first batch is unknown (254): nothing is learnt of objects from it")
        if step == 0 and not losses["labelled"]:
            _log.warning("no pixel of the first batch's augmented pictures is labelled (all 255)")

    def state(self) -> dict[str, torch.Tensor]:
        return {"margins": torch.tensor(self._margins.as_tuple(), dtype=torch.float64)} if self._margins else {}

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        if "margins" in tensors:
            self._set_margins(Margins(*tensors["margins"].tolist()))

    def _contrast(self, original: Half, augmented: Half) -> dict[str, torch.Tensor]:
        """The terms of L_unc, weighted."""
        assert self._margins is not None
        if self._settings.contrast == "relative":
            terms = relative_contrast(original, augmented, self._margins)
            terms["augmented_over_original"] = self._settings.relative_weight * terms["augmented_over_original"]
            return terms
        halves = (original, augmented) if self._settings.contrast == "pooled" else (original,)
        return pooled_contrast(halves, self._margins.unknown_over_original)

    def _stage(self, step: int) -> int:
        return 1 if step < self._stage1_steps else 2

    def _set_margins(self, margins: Margins) -> None:
        self._margins = margins
        self._facts["margins"] = list(margins.as_tuple())

    def _report_stage(self, network: nn.Module, stage: int) -> None:
        self._last_stage = stage
        learning = sorted({name.rpartition(".")[0] for name, p in network.named_parameters() if p.requires_grad})
        _log.info("stage %d: %d modules learn, of %s", stage, len(learning), ", ".join(_tops(learning)))


def _tops(names: Sequence[str]) -> list[str]:
    """The first two words of dotted names, each once."""
    return sorted({".".join(name.split(".")[:2]) for name in names})


def _open_objects(config: Config, label_space: LabelSpace) -> list[Source]:
    return [open_dataset(path, "train", label_space) for path in config.objects] if config.anomaly_mix else []
