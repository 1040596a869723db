"""A mask segmenter on a frozen image tower of CLIP: open_clip's backbone under transformers' Mask2Former head (CLOUDS).

Queries give a class and a mask each; a pixel's score of a class is sum_q softmax(class)_q * sigmoid(mask)_q. `forward`
gives the logarithm of that, so that its softmax are the shares of the classes. It has a loss of its own, `mask_loss`.
"""

from __future__ import annotations

from typing import Any

import open_clip
import torch
from torch import nn
from torch.nn import functional
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerLoss,
    Mask2FormerPixelDecoder,
    Mask2FormerPreTrainedModel,
    Mask2FormerTransformerModule,
)

from segkit.errors import ModelError
from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION
from segkit.printable import excerpt, in_one_line

ARCHITECTURE = "Mask2Former"
MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
"""Channel statistics that CLIP's towers expect, for RGB in 0..1."""
SETTINGS = {"queries": 100, "width": 256, "decoder_layers": 9, "encoder_layers": 6, "points": 12_544}
"""CLOUDS' head, from Mask2Former's."""

_STRIDES = (4, 8, 16, 32)
_WEIGHTS = {"loss_cross_entropy": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
_CERTAIN = -20.0  # logit of a mask where its truth is not known: no loss, no gradient, and no point is drawn for it
_LEAST = 1e-8


def build(arguments: dict[str, Any], settings: dict[str, Any], encoder_weights: str | bool | None) -> ClipMasks:
    """`arguments` as those of smp's networks: `_model_class` is "Mask2Former", `encoder_name` a model of open_clip.

    `encoder_weights` is a tag of its weights or a file; `settings` are some of SETTINGS.

    Raises ModelError.
    """
    name = arguments["encoder_name"]
    if arguments["_model_class"] != ARCHITECTURE:
        raise ModelError(f"network 'clip_masks': is {ARCHITECTURE}, not {excerpt(arguments['_model_class'])}")
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown or any(type(value) is not int or not 1 <= value <= 65_536 for value in settings.values()):
        raise ModelError(
            f"network 'clip_masks': settings are whole numbers {', '.join(SETTINGS)}, not {excerpt(settings)}"
        )
    sizes = {**SETTINGS, **settings}
    if sizes["width"] % 32:
        raise ModelError(f"network 'clip_masks': width {sizes['width']} is not a multiple of 32")
    if name not in open_clip.list_models():
        raise ModelError(
            f"encoder {excerpt(name)}: open_clip has no such model; it has RN50, convnext_large_d_320, ..."
        )
    if "hf_model_name" in open_clip.get_model_config(name).get("text_cfg", {}):
        raise ModelError(f"encoder {name}: its text tower lies on a hub, and loading a model takes nothing from one")
    try:
        visual = open_clip.create_model(name, pretrained=encoder_weights or None).visual
    except (RuntimeError, OSError, ValueError) as error:
        raise ModelError(f"encoder {name}: open_clip cannot build it: {in_one_line(error)}") from error
    return ClipMasks(ClipBackbone(visual, name), arguments["classes"], sizes)


class ClipBackbone(nn.Module):
    """Four maps of strides 4, 8, 16 and 32 of an image tower, which never learns."""

    def __init__(self, visual: Any, name: str) -> None:
        """Raises ModelError for a tower whose maps have other strides, as those of a vision transformer."""
        super().__init__()
        self.visual: Any = visual.requires_grad_(False).eval()
        with torch.no_grad():
            maps = self(torch.zeros(1, 3, 64, 64))
        if [64 // feature.shape[-1] for feature in maps] != list(_STRIDES):
            raise ModelError(
                f"encoder {name}: its maps have not the strides 4, 8, 16, 32: take one of ResNets or ConvNeXts"
            )
        self.channels = [feature.shape[1] for feature in maps]

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """(B, 3, H, W) normalised to maps (B, D_i, H / stride_i, W / stride_i), fine to coarse."""
        made = self.visual.forward_intermediates(images, indices=4, intermediates_only=True)
        maps: list[torch.Tensor] = list(made["image_intermediates"])
        return maps

    def train(self, mode: bool = True) -> ClipBackbone:
        """It infers whatever the rest does."""
        return super().train(False)


class MaskHead(Mask2FormerPreTrainedModel):
    """Mask2Former's pixel decoder, decoder and classifier over maps that somebody else has made."""

    def __init__(self, config: Mask2FormerConfig, channels: list[int]) -> None:
        super().__init__(config)
        self.pixel_decoder = Mask2FormerPixelDecoder(config, feature_channels=channels)
        self.transformer_module = Mask2FormerTransformerModule(in_features=config.feature_size, config=config)
        self.class_predictor = nn.Linear(config.hidden_dim, config.num_labels + 1)
        self.criterion = Mask2FormerLoss(config=config, weight_dict=_WEIGHTS)
        self.post_init()

    def forward(self, maps: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """After each layer: class logits (B, Q, C + 1), the last of no object, and mask logits (B, Q, H / 4, W / 4)."""
        decoded = self.pixel_decoder(maps)
        made = self.transformer_module(
            multi_scale_features=list(decoded.multi_scale_features),
            mask_features=decoded.mask_features,
            output_hidden_states=True,
        )
        classes = [self.class_predictor(states.transpose(0, 1)) for states in made.intermediate_hidden_states]
        return classes, list(made.masks_queries_logits)


class ClipMasks(nn.Module):
    """The head over the tower."""

    frozen = ("encoder.*",)
    """Name patterns of what never learns, for a training's groups."""
    gradient_clip = 0.01
    """Largest norm of the gradient [CLOUDS, code]."""

    def __init__(self, encoder: ClipBackbone, classes: int, sizes: dict[str, int]) -> None:
        super().__init__()
        width = sizes["width"]
        config = Mask2FormerConfig(
            num_labels=classes,
            feature_size=width,
            mask_feature_size=width,
            hidden_dim=width,
            encoder_feedforward_dim=4 * width,
            dim_feedforward=8 * width,
            encoder_layers=sizes["encoder_layers"],
            decoder_layers=sizes["decoder_layers"] + 1,  # transformers counts the first prediction, of no layer
            num_queries=sizes["queries"],
            train_num_points=sizes["points"],
        )
        self.encoder = encoder
        self.head = MaskHead(config, encoder.channels)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) normalised to the logarithms of the classes' scores (B, C, H, W)."""
        classes, masks = self.head(self.encoder(images))
        spread = functional.interpolate(masks[-1].float(), images.shape[-2:], mode="bilinear", align_corners=False)
        shares = classes[-1].float().softmax(dim=-1)[..., :-1]
        return torch.einsum("bqc,bqhw->bchw", shares, spread.sigmoid()).clamp(min=_LEAST).log()

    def mask_loss(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mask2Former's loss over all layers: class 2, mask 5, dice 5, no object 0.1.

        `images` (B, 3, H, W) normalised; `targets` (B, H, W) channels; a pixel of 254 is background of every mask, one
        of 255 says nothing of any. Draws its points from torch's global generator.
        """
        classes, masks = self.head(self.encoder(images))
        classes, masks = [c.float() for c in classes], [m.float() for m in masks]
        unknown = functional.interpolate((targets == IGNORE).float()[:, None], masks[-1].shape[-2:], mode="area") > 0.5
        masks = [layer.masked_fill(unknown, _CERTAIN) for layer in masks]
        present = [[c for c in target.unique().tolist() if c < OUT_OF_DISTRIBUTION] for target in targets]
        mask_labels = [
            torch.stack([target == c for c in of_image]).float()
            if of_image
            else target.new_zeros((0, *target.shape)).float()
            for of_image, target in zip(present, targets, strict=True)
        ]
        class_labels = [torch.tensor(of_image, dtype=torch.int64, device=targets.device) for of_image in present]
        earlier = [
            {"masks_queries_logits": mask, "class_queries_logits": logits}
            for mask, logits in zip(masks[:-1], classes[:-1], strict=True)
        ]
        with torch.autocast(masks[-1].device.type, enabled=False):  # bfloat16 would match queries by rounded costs
            parts = self.head.criterion(masks[-1], classes[-1], mask_labels, class_labels, earlier)
        weighted = [
            value * next(w for part, w in _WEIGHTS.items() if name.startswith(part)) for name, value in parts.items()
        ]
        return torch.stack(weighted).sum()
