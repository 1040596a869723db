"""The learnable uncertainty of a trained segmenter: where it begins, what learns in which stage, how far apart is far.

Stage 1 learns the uncertainty head alone. Stage 2 learns the decoder and the head; encoder, classifier and the
decoder's last projection stay, so that classifier and head go on reading features of one meaning. In the paper's
DeepLabV3+ the ASPP, the projection of the fine features and the head learn. What is frozen keeps its batch norm
statistics too. Of the mask model all but the backbone learns.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from segkit.labels import LabelSpace, label_space_of
from segkit.networks import mask2former
from segkit.networks.folder import NetworkSpec, read_config
from segkit.networks.uncertainty import UncertainNetwork, with_uncertainty
from segtrain.data.batches import Batch
from segtrain.errors import ConfigError, DataError, ModelError
from segtrain.methods.multi_shift.config import Config
from segtrain.methods.multi_shift.relative_contrast import Half, Margins
from segtrain.optimiser import Group
from segtrain.segmenter import Segmenter, load_model

MASK_MODEL = "Mask2Former"  # as an architecture
_BASES = ("smp", "uncertainty", "mask2former")
_PROJECTIONS = {  # by architecture of smp: the last convolutions of the decoder
    "DeepLabV3Plus": ("decoder.block2.*",),
    "DeepLabV3": ("decoder.conv.*", "decoder.bn.*"),
    "PSPNet": ("decoder.conv.*",),
}
_BY_BLOCKS = ("Unet", "MAnet", "Linknet")  # their decoders are lists of blocks
_MOST_OF_L1 = 0.5  # l3 is at most this share of l1, as in both published triples
_log = logging.getLogger(__name__)


def read_base(folder: Path) -> tuple[LabelSpace, str]:
    """Label space and architecture of the base model; loads no weights.

    Raises ModelError if it is no finished model that an uncertainty head goes on.
    """
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ModelError(f"base {folder}: no {name}, so no model: train one with `segtrain train`")
    if mask2former.is_transformers_folder(folder):
        return mask2former.read_transformers_config(folder)[1], MASK_MODEL
    spec, facts = read_config(folder)
    if spec.network not in _BASES:
        raise ModelError(f"base {folder}: is a network {spec.network!r}: take a model of `segtrain train`")
    try:
        space = label_space_of(facts["label_space"], str(folder / "config.json"))
    except DataError as error:
        raise ModelError(str(error)) from error
    return space, spec.arguments["_model_class"]


def with_learnable_head(folder: Path, device: torch.device) -> Segmenter:
    """The base model under an uncertainty head, a copy of its classifier, or that which it has. Raises ModelError."""
    if mask2former.is_transformers_folder(folder):
        settings, space = mask2former.read_transformers_config(folder)
        arguments = {
            "_model_class": MASK_MODEL,
            "encoder_name": settings["backbone_config"]["model_type"],
            "encoder_weights": None,
            "in_channels": 3,
            "classes": len(space.labels),
        }
        spec = NetworkSpec(arguments, "mask2former", settings)
        return Segmenter(mask2former.load_transformers(folder, settings), spec, space, device)
    base = load_model(folder, "cpu")
    spec = base.spec if base.spec.network == "mask2former" else NetworkSpec(base.spec.arguments, "uncertainty")
    network = with_uncertainty(base.network)
    return Segmenter(network, spec, base.label_space, device, statistics=base.statistics)


def stage_groups(network: UncertainNetwork, arch: str, config: Config, stage: int) -> tuple[Group, ...]:
    """What learns in stage 1 or 2, and how fast. Raises ConfigError at `config.freeze` of a part that is not there."""
    if stage == 1:
        return Group(("uncertainty_head.*",)), Group(frozen=True)
    is_mask_model = isinstance(network, mask2former.MaskNetwork)
    if is_mask_model:
        frozen = ["network.model.pixel_level_module.encoder.*", "network.criterion.*", *config.freeze]
    else:
        frozen = ["encoder.*", "classifier.*", *(config.freeze or last_projection(network, arch))]
    if not config.learn_head:
        frozen.append("uncertainty_head.*")
    own = config.stage2(is_mask_model)
    rate = own.learning_rate / config.learning_rate
    return Group(tuple(frozen), frozen=True), Group(rate=rate, weight_decay=own.weight_decay, clip=own.clip)


def last_projection(network: UncertainNetwork, arch: str) -> tuple[str, ...]:
    """Patterns of the decoder's last convolutions; none where features are a sum of branches (FPN, Segformer)."""
    if arch in _BY_BLOCKS:
        return (f"decoder.blocks.{len(network.get_submodule('decoder.blocks')) - 1}.*",)  # type: ignore[arg-type]
    return _PROJECTIONS.get(arch, ())


def features_and_uncertainty(segmenter: Segmenter, images: torch.Tensor) -> tuple[Any, torch.Tensor]:
    """(B, 3, H, W) uint8 to the network's features and the uncertainty (B, H, W) float32, in one pass."""
    network = segmenter.network
    assert isinstance(network, UncertainNetwork)
    with torch.autocast(segmenter.device.type, torch.bfloat16, enabled=segmenter.bfloat16):
        features = network.features(segmenter.normalised(images))
        uncertainty = network.uncertainty(features)
    return features, uncertainty.float()


@dataclasses.dataclass(frozen=True, slots=True)
class Levels:
    """Mean uncertainty of known pixels of the originals, of the augmented pictures, and of unknown pixels; `spread` is
    the standard deviation of the first."""

    original: float
    augmented: float
    unknown: float
    spread: float


def measured_levels(segmenter: Segmenter, batches: Iterable[Batch]) -> Levels:
    """Over the pixels of all batches, of the network as it stands and set to infer; leaves it as it was.

    Raises ConfigError if one of the three kinds of pixels is not there.
    """
    modes = [(module, module.training) for module in segmenter.network.modules()]
    segmenter.network.eval()
    sums = torch.zeros(3, 3, dtype=torch.float64)  # kinds x (pixels, sum, sum of squares)
    with torch.inference_mode():
        for batch in batches:
            day, weather = halves_of(batch, features_and_uncertainty(segmenter, both_images(batch))[1])
            unknown = [half.uncertainty[half.unknown] for half in (day, weather)]
            kinds = (day.uncertainty[day.known], weather.uncertainty[weather.known], torch.cat(unknown))
            for number, values in enumerate(kinds):
                doubles = values.cpu().double()  # Apple's GPUs have no float64
                sums[number] += torch.stack([torch.tensor(float(len(doubles))), doubles.sum(), (doubles**2).sum()])
    for module, training in modes:
        module.training = training
    for name, pixels in zip(("known in the originals", "known in the augmented", "unknown"), sums[:, 0], strict=True):
        if not pixels:
            raise ConfigError(
                f"margins auto: no pixel is {name} in the first batches: raise --margin-batches, or give --margins"
            )
    original, augmented, unknown_level = (sums[:, 1] / sums[:, 0]).tolist()
    spread = math.sqrt(max(0.0, (sums[0, 2] / sums[0, 0]).item() - original**2))
    return Levels(original, augmented, unknown_level, spread)


def margins_of(levels: Levels) -> Margins:
    """l1 = the gap between unknown and known, l3 = that between augmented and original, l2 = l1 - l3.

    A base network may see no gap, or a larger one by weather than by objects. So l1 is the known pixels' standard
    deviation at the least, and l3 between 0 and half of l1. Raises ConfigError if all pixels are as uncertain.
    """
    l1 = max(levels.unknown - levels.original, levels.spread)
    if l1 <= 0:
        raise ConfigError("margins auto: all pixels of the base model are as uncertain: give --margins")
    l3 = min(max(levels.augmented - levels.original, 0.0), _MOST_OF_L1 * l1)
    _log.info(
        "uncertainty of the base model: known %.3f (std %.3f), known in augmented %.3f, unknown %.3f; margins %.3f, "
        "%.3f, %.3f",
        *(levels.original, levels.spread, levels.augmented, levels.unknown, l1, l1 - l3, l3),
    )
    return Margins(l1, l1 - l3, l3)


def both_images(batch: Batch) -> torch.Tensor:
    """(2 B, 3, H, W): the originals, then the augmented pictures."""
    assert batch.originals is not None
    return torch.cat([batch.originals, batch.images])


def halves_of(batch: Batch, uncertainty: torch.Tensor) -> tuple[Half, Half]:
    """The originals' half and the augmented one, of the uncertainty (2 B, H, W) of `both_images`."""
    assert batch.original_targets is not None
    number = len(batch.targets)
    device = uncertainty.device
    return (
        Half(uncertainty[:number], batch.original_targets.to(device)),
        Half(uncertainty[number:], batch.targets.to(device)),
    )
