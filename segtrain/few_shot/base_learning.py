"""Stage 1: an ordinary training on the base classes, with POP's classifier on top and its prototypes pushed apart."""

from __future__ import annotations

from pathlib import Path

import torch

from segtrain.data import Batch, Mixture, open_sources
from segtrain.few_shot.config import BaseConfig
from segtrain.few_shot.folds import novel_of_fold
from segtrain.few_shot.network import PopNetwork
from segtrain.few_shot.view import BaseView, base_rows, split_classes
from segtrain.labels import IGNORE, LabelSpace
from segtrain.model import Segmenter, build_segmenter
from segtrain.open_source import open_source
from segtrain.train import Job, carry_out, cross_entropy, named


def learn_base(config: BaseConfig) -> Path:
    """Train on the base classes, or go on where a killed training stopped; returns the model's folder.

    Raises SegtrainError.

    Loss: cross-entropy + orthogonality * mean |cos(s_i, s_j)| over pairs of base prototypes.
    """
    sources, space = open_sources(config)
    novel = config.novel or novel_of_fold(config.folds, config.fold)
    base_space, whole_space = split_classes(space, novel, str(sources[0].path))
    background = base_space.classes[0].id
    novel_to = background if config.novel_pixels == "background" else IGNORE
    views = [
        BaseView(source, base_space, novel_to, base_rows(source, base_space, config.novel_images == "keep"))
        for source in sources
    ]
    validation = None
    if config.validation:
        held_out = open_source(config.validation, "", space)
        held_out.label_space.require_within(space, str(held_out.path))
        validation = BaseView(held_out, base_space, background)
    return carry_out(
        Job(
            config,
            Mixture(views, base_space, config),
            named(views),
            base_space,
            lambda device: build_base(config, base_space, device),
            lambda segmenter, logits, batch: _loss(config, segmenter, logits, batch),
            validation,
            {"sources": [view.identity for view in views], "novel_classes": list(novel)},
            # The novel stage takes its classes from here.
            {"novel_classes": list(novel), "whole_label_space": whole_space.to_json()},
        )
    )


def build_base(config: BaseConfig, space: LabelSpace, device: torch.device) -> Segmenter:
    """`space` is background and base classes. A function of the config's seed."""
    plain = build_segmenter(config, space, torch.device("cpu"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = PopNetwork(plain.network, len(space.classes) - 1)
    return Segmenter(network, plain.arguments, space, device)


def _loss(config: BaseConfig, segmenter: Segmenter, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    network = segmenter.network
    assert isinstance(network, PopNetwork)
    return cross_entropy(logits, batch.targets.to(logits.device).long()) + config.orthogonality * network.mean_cosine()
