"""Mask2Former of transformers under a learnable uncertainty head (MultiShiftSeg's mask model, eq. 3).

The network gives N queries, each with class scores and a mask. A pixel's score of class c is S_c = sum_q
softmax(class_q)_c sigmoid(mask_q), 0 or more. Beside the class head stands a second one, a copy at first; with its
scores S^o the uncertainty is u = 1 - max_c S^o_c: where no query of a known class claims the pixel, it is unknown.
Both are computed at the masks' quarter of the picture's size and then upsampled. Mask2Anomaly's global mask
attention, which the paper's mask model has, is not part of it.
"""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from segkit.documents import read_json
from segkit.errors import ModelError
from segkit.labels import Label, LabelSpace
from segkit.networks.uncertainty import UncertainNetwork
from segkit.printable import excerpt, in_one_line

MODEL_TYPE = "mask2former"
BACKBONES = ("swin", "resnet")  # of transformers; others would be looked for on the Hub or in timm
_TINY = 1e-6  # of a score, so that its logarithm is a number
_BUFFERS = "criterion."  # of the loss that transformers keeps in the network; it is not asked here


@dataclasses.dataclass(frozen=True, slots=True)
class Queries:
    """What the N queries of one decoder layer say: `hidden` (B, N, D), `masks` (B, N, h, w) and `classes` (B, N, C + 1)
    logits; the last class is none."""

    hidden: torch.Tensor
    masks: torch.Tensor
    classes: torch.Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class MaskFeatures:
    """Of each decoder layer, the last one last; `size_px` (H, W) is that of the picture."""

    layers: tuple[Queries, ...]
    size_px: tuple[int, int]


def build(arguments: dict[str, Any], settings: dict[str, Any], encoder_weights: str | bool | None) -> MaskNetwork:
    """`settings` are the configuration of transformers' Mask2Former; of `arguments` only the number of classes counts.

    Raises ModelError.
    """
    return MaskNetwork(checked_settings(settings, arguments["classes"], "network 'mask2former'"))


def checked_settings(settings: dict[str, Any], num_classes: int | None, where: str) -> dict[str, Any]:
    """A configuration that builds the network from itself alone. Raises ModelError for one that names other models."""
    backbone = settings.get("backbone_config")
    kind = backbone.get("model_type") if isinstance(backbone, dict) else None
    if settings.get("model_type") != MODEL_TYPE or kind not in BACKBONES:
        raise ModelError(
            f"{where}: is no Mask2Former with its backbone in it: model_type {excerpt(settings.get('model_type'))}, "
            f"backbone_config {excerpt(kind)}; backbones are {', '.join(BACKBONES)}"
        )
    if settings.get("backbone") or settings.get("use_timm_backbone") or settings.get("use_pretrained_backbone"):
        raise ModelError(f"{where}: its backbone lies elsewhere: save the whole model with save_pretrained")
    names = settings.get("id2label")
    if not isinstance(names, dict) or not names or (num_classes is not None and len(names) != num_classes):
        raise ModelError(f"{where}: id2label must name the classes of the network")
    return settings


class MaskNetwork(UncertainNetwork):
    """Mask2Former with an uncertainty head. For both answers of one pass: `phi = features(images)`, then `logits(phi)`
    and `uncertainty(phi)`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """With random weights. Raises ModelError for settings that transformers refuses."""
        super().__init__()
        from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

        try:
            config = Mask2FormerConfig.from_dict(settings)
            self.network = Mask2FormerForUniversalSegmentation(config)
        except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, ImportError) as error:
            # transformers checks a configuration in many places, each with its own kind of error
            raise ModelError(f"network 'mask2former': cannot be built: {in_one_line(error)}") from error
        self.uncertainty_head = copy.deepcopy(self.network.class_predictor)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) normalised to logits (B, C, H, W)."""
        return self.logits(self.features(images))

    def features(self, images: torch.Tensor) -> MaskFeatures:
        """(B, 3, H, W) normalised to what the queries say, layer by layer."""
        found = self.network.model(pixel_values=images, output_hidden_states=True, return_dict=True)
        # normalised, queries first: what transformers' own class head reads, too
        states = [state.transpose(0, 1) for state in found.transformer_decoder_intermediate_states]
        layers = [
            Queries(state, masks, self.network.class_predictor(state))
            for state, masks in zip(states, found.masks_queries_logits, strict=True)
        ]
        return MaskFeatures(tuple(layers), (images.shape[2], images.shape[3]))

    def logits(self, features: MaskFeatures) -> torch.Tensor:
        """(B, C, H, W): the logarithm of S, so that a softmax gives each class its share of S."""
        last = features.layers[-1]
        return _upsampled(scores(last.classes, last.masks), features.size_px).clamp(min=_TINY).log()

    def uncertainty(self, features: MaskFeatures) -> torch.Tensor:
        """(B, H, W) float32 in 0..1, high = unknown."""
        last = features.layers[-1]
        known = scores(self.uncertainty_head(last.hidden), last.masks).amax(dim=1, keepdim=True)
        return 1 - _upsampled(known, features.size_px)[:, 0]


def scores(classes: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """S (B, C, h, w) float32 of class logits (B, N, C + 1), the last of which is none, and mask logits (B, N, h, w)."""
    with torch.autocast(masks.device.type, enabled=False):
        shares = classes.float().softmax(dim=-1)[..., :-1]
        return torch.einsum("bnc,bnhw->bchw", shares, masks.float().sigmoid())


def _upsampled(maps: torch.Tensor, size_px: tuple[int, int]) -> torch.Tensor:
    return nn.functional.interpolate(maps, size_px, mode="bilinear", align_corners=False)


def is_transformers_folder(folder: Path) -> bool:
    """Whether `save_pretrained` of a Mask2Former has written it, and not segtrain. Raises ModelError."""
    raw = read_json(folder / "config.json", ModelError)
    return isinstance(raw, dict) and raw.get("model_type") == MODEL_TYPE and "_segtrain" not in raw


def read_transformers_config(folder: Path) -> tuple[dict[str, Any], LabelSpace]:
    """Configuration and classes (id = channel, name = id2label) of such a folder; loads no weights.

    Raises ModelError.
    """
    path = folder / "config.json"
    raw = read_json(path, ModelError)
    settings = checked_settings(raw if isinstance(raw, dict) else {}, None, str(path))
    names = settings["id2label"]
    wanted = [str(number) for number in range(len(names))]
    if set(names) != set(wanted) or not all(isinstance(name, str) for name in names.values()):
        raise ModelError(f"{path}: id2label must name the classes 0..{len(names) - 1}")
    return settings, LabelSpace(MODEL_TYPE, tuple(Label(int(number), names[number]) for number in wanted))


def load_transformers(folder: Path, settings: dict[str, Any]) -> MaskNetwork:
    """The network with the folder's weights; its uncertainty head is a copy of its class head. Raises ModelError."""
    from transformers import Mask2FormerForUniversalSegmentation

    network = MaskNetwork(settings)
    path = folder / "model.safetensors"
    try:
        # the library's own reader: it knows the names that older versions gave to the weights
        loaded, report = Mask2FormerForUniversalSegmentation.from_pretrained(
            folder, config=network.network.config, dtype=torch.float32, local_files_only=True, use_safetensors=True,
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: cannot be loaded: {in_one_line(error)}") from error
    network.network.load_state_dict(loaded.state_dict())
    names = (*report["missing_keys"], *report["unexpected_keys"])
    wrong = sorted(name for name in names if not name.startswith(_BUFFERS))
    if wrong:
        raise ModelError(f"{path}: not the weights of its config.json: {excerpt(wrong[0])} is missing or too much")
    network.uncertainty_head.load_state_dict(network.network.class_predictor.state_dict())
    return network
