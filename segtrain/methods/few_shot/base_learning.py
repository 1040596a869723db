"""Stage 1: an ordinary training on the base classes, with POP's classifier on top and its prototypes pushed apart."""

from __future__ import annotations

from pathlib import Path

import torch

from segkit.labels import IGNORE, LabelSpace
from segkit.networks.folder import NetworkSpec
from segkit.networks.pop import PopNetwork
from segtrain.data.base_view import BaseView, base_validation
from segtrain.data.batches import Batch, StepBatches
from segtrain.data.mixture import Mixture, open_sources
from segtrain.errors import ModelError
from segtrain.loop import Training, reports, run
from segtrain.losses import cross_entropy
from segtrain.method import StandardMethod
from segtrain.methods.few_shot.config import BaseConfig
from segtrain.methods.few_shot.folds import novel_of_fold
from segtrain.methods.few_shot.prototypes import mean_cosine
from segtrain.methods.few_shot.view import base_rows, split_classes
from segtrain.segmenter import Segmenter, build_segmenter


def learn_base(config: BaseConfig) -> Path:
    """Train on the base classes, or go on where a killed training stopped; returns the model's folder.

    Raises SegtrainError.
    """
    sources, space = open_sources(config)
    novel = config.novel or novel_of_fold(config.folds, config.fold)
    base_space, whole_space = split_classes(space, novel, str(sources[0].path))
    background = base_space.labels[0].id
    novel_to = background if config.novel_pixels == "background" else IGNORE
    views = [
        BaseView(source, base_space, novel_to, base_rows(source, base_space, config.novel_images == "keep"))
        for source in sources
    ]
    data = Mixture(views, base_space, config)
    training = Training(
        config,
        reports(views, data.planned_counts),
        base_space,
        build=lambda device: build_base(config, base_space, device),
        validation=base_validation(config.validation, space, base_space) if config.validation else None,
        claims={"sources": [view.identity for view in views], "novel_classes": list(novel)},
        # The novel stage takes its classes from here.
        facts={"novel_classes": list(novel), "whole_label_space": whole_space.to_json()},
    )
    return run(training, BaseLearning(data, config))


class BaseLearning(StandardMethod):
    """Cross-entropy + orthogonality * mean |cos(s_i, s_j)| over pairs of base prototypes."""

    def __init__(self, data: StepBatches, config: BaseConfig) -> None:
        super().__init__(data, config)
        self._weight = config.orthogonality

    def loss(self, segmenter: Segmenter, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        network = segmenter.network
        assert isinstance(network, PopNetwork)
        segmentation = cross_entropy(segmenter.logits(batch.images), batch.targets.to(segmenter.device))
        cosine = mean_cosine(network)
        return {"loss": segmentation + self._weight * cosine, "cross_entropy": segmentation, "mean_cosine": cosine}


def build_base(config: BaseConfig, space: LabelSpace, device: torch.device) -> Segmenter:
    """`space` is background and base classes. A function of the config's seed. Raises ModelError."""
    plain = build_segmenter(config, space, torch.device("cpu"))
    if plain.spec.network != "smp":
        raise ModelError(f"arch {config.arch}: POP's classifier goes on networks of smp alone: choose another --arch")
    num_base = len(space.labels) - 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = PopNetwork(plain.network, num_base)
    spec = NetworkSpec(plain.spec.arguments, "pop", {"num_base": num_base, "num_novel": 0})
    return Segmenter(network, spec, space, device)
