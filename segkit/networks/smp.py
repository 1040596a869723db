"""Any network of segmentation_models_pytorch: encoder, decoder, segmentation head."""

from __future__ import annotations

from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import nn

from segkit.errors import ModelError
from segkit.printable import excerpt, in_one_line


def build(arguments: dict[str, Any], settings: dict[str, Any], encoder_weights: str | bool | None) -> nn.Module:
    """`arguments` are those of `smp.create_model`, with the architecture as `_model_class`; there are no settings.

    Raises ModelError at an architecture or encoder that does not exist, and at weights that cannot be downloaded.
    """
    if settings:
        raise ModelError(f"network 'smp' takes no settings, not {excerpt(settings)}")
    arch = arguments["_model_class"]
    others = {key: value for key, value in arguments.items() if key != "_model_class"}
    try:
        return smp.create_model(arch, **{**others, "encoder_weights": encoder_weights})
    except (KeyError, ValueError, RuntimeError, TypeError, OSError) as error:
        # smp and timm each have their own kinds of error for an unknown name, unknown weights and a download that
        # fails.
        name = others.get("encoder_name")
        raise ModelError(
            f"{excerpt(arch)} with encoder {excerpt(name)}: cannot be built: {in_one_line(error)}"
        ) from error


def architectures() -> list[str]:
    return [architecture.__name__ for architecture in smp.MODEL_ARCHITECTURES_MAPPING.values()]


def features(network: Any, images: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) normalised to what the decoder gives, (B, D, h, w)."""
    return decode(network, encode(network, images))


def encode(network: Any, images: torch.Tensor) -> list[torch.Tensor]:
    """(B, 3, H, W) normalised to the encoder's maps, fine to coarse."""
    maps: list[torch.Tensor] = list(network.encoder(images))
    return maps


def decode(network: Any, encoded: list[torch.Tensor]) -> torch.Tensor:
    """The maps of `encode` to what the decoder gives, (B, D, h, w)."""
    decoded: torch.Tensor = network.decoder(encoded)
    return decoded


def classify(network: Any, decoded: torch.Tensor) -> torch.Tensor:
    """(B, D, h, w) of `features` to logits (B, C, H, W)."""
    logits: torch.Tensor = network.segmentation_head(decoded)
    return logits
