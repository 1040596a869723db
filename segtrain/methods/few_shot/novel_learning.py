"""Stage 2: novel classes from a few shots and a synthetic set, on the frozen network of stage 1."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from segkit.labels import LabelSpace, label_space_of
from segkit.networks.folder import NetworkSpec, create_network, read_config
from segkit.networks.pop import PopNetwork
from segtrain.data.base_view import BaseView
from segtrain.data.batches import Batch, StepBatches
from segtrain.data.formats import open_dataset
from segtrain.data.source import Source
from segtrain.errors import DataError, ModelError
from segtrain.evaluate import open_validation
from segtrain.loop import SourceReport, Training, run
from segtrain.losses import cross_entropy
from segtrain.method import StandardMethod
from segtrain.methods.few_shot.config import NovelConfig
from segtrain.methods.few_shot.episodes import Episodes
from segtrain.methods.few_shot.prototypes import mean_cosine, start_from_support, take_over
from segtrain.methods.few_shot.shots import Place, Showing, novel_shots, showing
from segtrain.optimiser import Group
from segtrain.segmenter import Segmenter, load_model


def learn_novel(config: NovelConfig) -> Path:
    """Learn the novel classes, or go on where a killed training stopped; returns the model's folder.

    The test images are never looked at: no early stopping. Raises SegtrainError.
    """
    base_space, space, novel_names = read_base(config.base_model)
    novel = [(c.id, c.name) for c in space.labels if c.name in novel_names]
    data = _open(config.data, space)
    in_data = showing(data, config.min_shot_share)
    shot_sources, shots = _shots(config, space, novel, data, in_data)
    synthetic = _open(config.synthetic, space)
    of_synthetic = _of_any(showing(synthetic, 0), novel, "synthetic") if synthetic else []
    # An image that is a shot shows its novel classes there; as a base image it would say that they are background.
    taken = set(shots) if shot_sources is data else set()
    base = {c.id: in_data.of(c.id, taken) for c in base_space.labels if c.id != base_space.background}
    base = {class_id: places for class_id, places in base.items() if places}
    if not base:
        raise DataError(
            f"{', '.join(config.data)}: no image shows enough of a base class: lower --min-shot-share or add images"
        )
    views = [BaseView(source, base_space, base_space.labels[0].id) for source in data]
    episodes = Episodes(config, space, (shot_sources, shots), (synthetic, of_synthetic), (views, base))
    names = ("shots", ", ".join(config.synthetic) or "no synthetic images", ", ".join(config.data))
    counts = (len(shots), len(of_synthetic), sum(map(len, base.values())))
    training = Training(
        config,
        [
            SourceReport(*report)
            for report in zip(names, ("real", "synthetic", "base"), counts, episodes.planned_counts, strict=True)
        ],
        space,
        build=lambda device: _build(config, base_space, space, (shot_sources, shots), device),
        validation=open_validation(config.validation, space) if config.validation else None,
        claims={
            "base_model": hashlib.sha256((config.base_model / "model.safetensors").read_bytes()).hexdigest(),
            "data": [source.identity for source in data],
            "support": [source.identity for source in shot_sources],
            "synthetic": [source.identity for source in synthetic],
        },
        facts={"shots": [shot_sources[place.source].name(place.row) for place in shots]},
    )
    return run(training, NovelLearning(episodes, config))


class NovelLearning(StandardMethod):
    """Learns the novel prototypes and a copy of the classifier, which scores novel classes and background.

    All else stays as stage 1 left it, but for the decoder if that is asked for. Loss: cross-entropy over both images of
    each pair + orthogonality * mean |cos| of the novel prototypes to each other and to the base ones.
    """

    def __init__(self, data: StepBatches, config: NovelConfig) -> None:
        super().__init__(data, config)
        self._settings = config

    def groups(self, network: nn.Module, step: int) -> Sequence[Group]:
        frozen = ["encoder.*", "base_prototypes", "classifier.*"]
        # Not POP, whose features stay fixed: with some hundred synthetic images there is enough to adapt them.
        if not self._settings.learn_decoder:
            frozen.append("decoder.*")
        return Group(tuple(frozen), frozen=True), Group()

    def loss(self, segmenter: Segmenter, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        network = segmenter.network
        assert isinstance(network, PopNetwork)
        logits = segmenter.logits(batch.images)
        targets = batch.targets.to(segmenter.device).long()
        if self._settings.relabel_base:
            half = len(targets) // 2
            targets = torch.cat([targets[:half], relabelled(targets[half:], logits[half:].detach(), network.num_base)])
        segmentation, cosine = cross_entropy(logits, targets), mean_cosine(network)
        loss = segmentation + self._settings.orthogonality * cosine
        return {"loss": loss, "cross_entropy": segmentation, "mean_cosine": cosine}


def read_base(folder: Path) -> tuple[LabelSpace, LabelSpace, tuple[str, ...]]:
    """Label spaces of base stage and whole model, names of the novel classes.

    Raises ModelError if it is no finished base model.
    """
    path = folder / "config.json"
    try:
        facts = read_config(folder)[1]
        novel = facts.get("novel_classes")
        if not isinstance(novel, list) or not all(isinstance(name, str) for name in novel):
            raise ModelError(f"{path}: names no novel classes")
        whole = label_space_of(facts.get("whole_label_space"), str(path))
        base = label_space_of(facts["label_space"], str(path))
    except (ModelError, DataError) as error:
        raise ModelError(f"{folder}: not a finished model of `segtrain few-shot base`: {error}") from error
    if not (folder / "model.safetensors").is_file():
        raise ModelError(f"{folder}: config.json without model.safetensors: copy the model again")
    return base, whole, tuple(novel)


def relabelled(targets: torch.Tensor, logits: torch.Tensor, num_base: int) -> torch.Tensor:
    """Background (channel 0) of base images (B, H, W) becomes what the network says, of background and novel classes
    only.

    POP's pseudo-labels: an image of the base set may show novel classes, which nobody has labelled there.
    """
    scores = torch.cat([logits[:, :1], logits[:, 1 + num_base :]], dim=1)
    guess = scores.argmax(dim=1)
    return torch.where((targets == 0) & (guess > 0), guess + num_base, targets)


def _open(paths: Sequence[str], space: LabelSpace) -> list[Source]:
    sources = [open_dataset(path, "train", space) for path in paths]
    for source in sources:
        source.label_space.require_within(space, str(source.path))
    return sources


def _shots(
    config: NovelConfig, space: LabelSpace, novel: list[tuple[int, str]], data: list[Source], in_data: Showing
) -> tuple[list[Source], list[Place]]:
    """The sources of the shots and the samples in them:

    drawn from the data, or all of a support folder that show a novel class.
    """
    if config.support is None:
        by_class = novel_shots(in_data, novel, config.shots, config.shots_seed)
        return data, [place for places in by_class.values() for place in places]
    support = _open([config.support], space)
    in_support = showing(support, 0)
    for class_id, name in novel:
        if not in_support.of(class_id):
            raise DataError(f"{config.support}: no image shows novel class {name!r} (id {class_id}): add one")
    return support, _of_any(in_support, novel, "support")


def _of_any(candidates: Showing, novel: list[tuple[int, str]], what: str) -> list[Place]:
    """The samples that show any novel class. Raises DataError if there is none."""
    ids = [class_id for class_id, _ in novel]
    places = [candidates.places[n] for n in np.flatnonzero(candidates.shows[:, ids].any(axis=1))]
    if not places:
        raise DataError(
            f"{what}: none of {len(candidates.places)} images shows a novel class "
            f"({', '.join(name for _, name in novel)})"
        )
    return places


def _build(
    config: NovelConfig,
    base_space: LabelSpace,
    space: LabelSpace,
    shots: tuple[list[Source], list[Place]],
    device: torch.device,
) -> Segmenter:
    """The network of stage 1 with novel prototypes; a function of the config's seed."""
    base = load_model(config.base_model, "cpu")
    if not isinstance(base.network, PopNetwork):
        raise ModelError(f"{config.base_model}: not a model of `segtrain few-shot base`")
    novel = tuple(c.name for c in space.labels[len(base_space.labels) :])
    settings = {"num_base": len(base_space.labels) - 1, "num_novel": len(novel)}
    spec = NetworkSpec({**base.spec.arguments, "classes": len(space.labels)}, "pop", settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = create_network(spec)
    assert isinstance(network, PopNetwork)
    take_over(network, base.network)
    segmenter = Segmenter(network, spec, space, device, novel, base.statistics)
    if config.novel_start == "support":
        start_from_support(segmenter, [shots[0][place.source].read(place.row) for place in shots[1]])
    return segmenter
