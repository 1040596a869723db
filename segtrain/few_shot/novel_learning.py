"""Stage 2: novel classes from a few shots and a synthetic set, on the frozen network of stage 1."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from segtrain.data import Batch
from segtrain.errors import DataError, ModelError
from segtrain.evaluate import open_validation
from segtrain.few_shot.config import NovelConfig
from segtrain.few_shot.episodes import Episodes
from segtrain.few_shot.network import PopNetwork
from segtrain.few_shot.shots import Place, Showing, novel_shots, showing
from segtrain.few_shot.view import BaseView
from segtrain.labels import LabelSpace, label_space_of
from segtrain.model import STRIDE_PX, Segmenter, create_network, load_model
from segtrain.open_source import open_source
from segtrain.sources import Source
from segtrain.train import Job, Named, carry_out, cross_entropy


def learn_novel(config: NovelConfig) -> Path:
    """Learn the novel classes, or go on where a killed training stopped; returns the model's folder.

    Raises SegtrainError.

    Learnt: the novel prototypes and a copy of the classifier, which scores novel classes and background. All else stays
    as stage 1 left it. Loss: cross-entropy over both images of each pair + orthogonality * mean |cos| of the novel
    prototypes to each other and to the base ones. The test images are never looked at: no early stopping.
    """
    base_model, base_space, space, novel_names = read_base(config.base_model)
    novel = [(c.id, c.name) for c in space.classes if c.name in novel_names]
    data = _open(config.data, "train", space)
    in_data = showing(data, config.min_shot_share)
    shots = _shots(config, space, novel, data, in_data)
    synthetic = _open(config.synthetic, "train", space)
    made = _of_any(showing(synthetic, 0), novel, "synthetic") if synthetic else []
    # An image that is a shot shows its novel classes there; as a base image it would say that they are background.
    taken = {place for place in shots[1] if shots[0] is data}
    base = {c.id: in_data.of(c.id, taken) for c in base_space.classes if c.id != base_space.background}
    base = {class_id: places for class_id, places in base.items() if places}
    if not base:
        raise DataError(
            f"{', '.join(config.data)}: no image shows enough of a base class: lower --min-shot-share or add images"
        )
    views = [BaseView(source, base_space, base_space.classes[0].id) for source in data]
    episodes = Episodes(config, space, shots, (synthetic, made), (views, base))
    names = [
        Named("shots", "real", len(shots[1])),
        Named(", ".join(config.synthetic) or "no synthetic images", "synthetic", len(made)),
        Named(", ".join(config.data), "base", sum(map(len, base.values()))),
    ]
    chosen = [Path(shots[0][place.source].read_mask(place.row)[1]).name for place in shots[1]]
    return carry_out(
        Job(
            config,
            episodes,
            names,
            space,
            lambda device: _build(config, base_model, base_space, space, shots, device),
            lambda segmenter, logits, batch: _loss(config, segmenter, logits, batch),
            open_validation(config.validation, space) if config.validation else None,
            {
                "base_model": hashlib.sha256(base_model.read_bytes()).hexdigest(),
                "data": [source.identity for source in data],
                "support": [source.identity for source in shots[0]],
                "synthetic": [source.identity for source in synthetic],
            },
            {"shots": chosen},
        )
    )


def read_base(folder: Path) -> tuple[Path, LabelSpace, LabelSpace, tuple[str, ...]]:
    """Weights file, label spaces of base stage and whole model, names of the novel classes.

    Raises ModelError if it is no finished base model.
    """
    path = folder / "config.json"
    try:
        own = json.loads(path.read_text(encoding="utf-8"))["_segtrain"]
        novel = tuple(own["novel_classes"])
        whole = label_space_of(own["whole_label_space"], str(path))
        base = label_space_of(own["label_space"], str(path))
    except (OSError, ValueError, KeyError, TypeError, DataError) as error:
        raise ModelError(
            f"{folder}: not a finished model of `segtrain few-shot base` ({type(error).__name__}: {error})"
        ) from error
    if not (folder / "model.safetensors").is_file():
        raise ModelError(f"{folder}: config.json without model.safetensors: copy the model again")
    return folder / "model.safetensors", base, whole, novel


def relabelled(targets: torch.Tensor, logits: torch.Tensor, num_base: int) -> torch.Tensor:
    """Background (channel 0) of base images (B, H, W) becomes what the network says, of background and novel classes
    only.

    POP's pseudo-labels: an image of the base set may show novel classes, which nobody has labelled there.
    """
    scores = torch.cat([logits[:, :1], logits[:, 1 + num_base :]], dim=1)
    guess = scores.argmax(dim=1)
    return torch.where((targets == 0) & (guess > 0), guess + num_base, targets)


def _loss(config: NovelConfig, segmenter: Segmenter, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    network = segmenter.network
    assert isinstance(network, PopNetwork)
    targets = batch.targets.to(logits.device).long()
    if config.relabel_base:
        half = len(targets) // 2
        targets = torch.cat([targets[:half], relabelled(targets[half:], logits[half:].detach(), network.num_base)])
    return cross_entropy(logits, targets) + config.orthogonality * network.mean_cosine()


def _open(paths: Sequence[str], split: str, space: LabelSpace) -> list[Source]:
    sources = [open_source(path, split, space) for path in paths]
    for source in sources:
        source.label_space.require_within(space, str(source.path))
    return sources


def _shots(
    config: NovelConfig, space: LabelSpace, novel: list[tuple[int, str]], data: list[Source], in_data: Showing
) -> tuple[list[Source], list[Place]]:
    """The sources of the shots and the samples there:

    drawn from the data, or all of a support folder that show a novel class.
    """
    if config.support is None:
        drawn = novel_shots(in_data, novel, config.shots, config.shots_seed)
        return data, [place for places in drawn.values() for place in places]
    support = _open([config.support], "train", space)
    there = showing(support, 0)
    for class_id, name in novel:
        if not there.of(class_id):
            raise DataError(f"{config.support}: no image shows novel class {name!r} (id {class_id}): add one")
    return support, _of_any(there, novel, "support")


def _of_any(there: Showing, novel: list[tuple[int, str]], what: str) -> list[Place]:
    """The samples that show any novel class. Raises DataError if there is none."""
    ids = [class_id for class_id, _ in novel]
    found = [there.places[n] for n in np.flatnonzero(there.shows[:, ids].any(axis=1))]
    if not found:
        raise DataError(
            f"{what}: none of {len(there.places)} images shows a novel class ({', '.join(name for _, name in novel)})"
        )
    return found


def _build(
    config: NovelConfig,
    base_model: Path,
    base_space: LabelSpace,
    space: LabelSpace,
    shots: tuple[list[Source], list[Place]],
    device: torch.device,
) -> Segmenter:
    """The network of stage 1 with novel prototypes; a function of the config's seed."""
    base = load_model(base_model.parent, "cpu")
    if not isinstance(base.network, PopNetwork):
        raise ModelError(f"{base_model.parent}: not a model of `segtrain few-shot base`")
    novel = tuple(c.name for c in space.classes[len(base_space.classes) :])
    arguments = {**base.arguments, "classes": len(space.classes)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = PopNetwork(create_network(arguments), len(base_space.classes) - 1, len(novel))
    network.begin_novel(base.network)
    if config.learn_decoder:
        network.let_decoder_learn()
    segmenter = Segmenter(network, arguments, space, device, novel)
    if config.novel_start == "support":
        start_from_support(segmenter, [shots[0][place.source].read(place.row) for place in shots[1]])
    return segmenter


@torch.inference_mode()
def start_from_support(segmenter: Segmenter, shots: Sequence[tuple[np.ndarray, np.ndarray, str]]) -> None:
    """Set each novel prototype to the class's mean feature over the shots, less its parts along the base prototypes.

    A cell of the feature map counts by the share of it that the class covers. A class that no cell shows keeps its
    random vector.
    """
    network, space = segmenter.network, segmenter.label_space
    assert isinstance(network, PopNetwork)
    network.eval()
    first = 1 + network.num_base
    sums = torch.zeros_like(network.novel_prototypes)
    for image, mask, where in shots:
        height, width = mask.shape
        pad = (0, -width % STRIDE_PX, 0, -height % STRIDE_PX)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
        channels = torch.from_numpy(space.to_channels(mask, where).astype(np.int64))
        covered = (
            (channels == torch.arange(first, len(space.classes))[:, None, None])[None].float().to(segmenter.device)
        )
        features = network.features(segmenter.normalised(functional.pad(pixels, pad, mode="replicate"))).float()
        weights = functional.adaptive_avg_pool2d(functional.pad(covered, pad), (features.shape[2], features.shape[3]))
        sums += torch.einsum("bdhw,bkhw->kd", features, weights)
    base = network.directions()[: network.num_base]
    rest = sums - sums @ base.T @ base
    found = rest.norm(dim=1) > 0
    network.novel_prototypes[found] = functional.normalize(rest[found], dim=1)
