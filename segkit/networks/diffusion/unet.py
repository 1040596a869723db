"""The denoiser of full size: diffusers' UNet2DConditionModel on [z_t ; z_x], with z_x the latents of a frozen
AutoencoderKL (LDMSeg, Van Gansbeke and De Brabandere, 2024).

Its cross-attention sees the fused features of the image, pooled to at most 16 x 16 tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from segkit.errors import ModelError
from segkit.printable import excerpt, in_one_line

STRIDE = 8
"""Pixels a latent of the autoencoder, and so of the labels."""
_TOKENS_A_SIDE = 16
_OTHER_CONDITIONS = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type", "num_class_embeds")


class UnetDenoiser(nn.Module):
    """UNet and autoencoder of a latent diffusion model; the autoencoder never learns."""

    def __init__(self, length: int, width: int, unet: dict[str, Any], vae: dict[str, Any]) -> None:
        """Configurations of both; channels in and out of the UNet follow from `length`. Raises ModelError."""
        super().__init__()
        from diffusers import AutoencoderKL, UNet2DConditionModel

        try:
            self.vae = AutoencoderKL(**own_settings(vae))
            latents = int(self.vae.config["latent_channels"])
            config = {**own_settings(unet), "in_channels": length + latents, "out_channels": length}
            self.unet = UNet2DConditionModel(**config)
        except (TypeError, ValueError, KeyError, RuntimeError) as error:
            raise ModelError(f"network 'latent_diffusion': unet, vae: cannot be built: {in_one_line(error)}") from error
        _require_fit(self.unet, self.vae)
        self.vae.requires_grad_(False)
        self.told = nn.Linear(width, int(self.unet.config["cross_attention_dim"]))
        self.mid_width = int(self.unet.config["block_out_channels"][-1])
        self.mid_halvings = len(self.unet.config["block_out_channels"]) - 1

    def load(self, unet: Any, vae: Any) -> None:
        """Takes the weights of a trained UNet on image latents and of its autoencoder.

        What the UNet read of the image latents it reads of them here; the label latents begin at its first channels'
        weights as far as they reach, at zero beyond (LDMSeg copies them too).
        """
        self.vae.load_state_dict(vae.state_dict())
        state = dict(unet.state_dict())
        length = self.unet.config["out_channels"]
        first, last = state["conv_in.weight"], state["conv_out.weight"]
        given = first.shape[1]
        state["conv_in.weight"] = torch.cat([_padded(first, length, dim=1), first], dim=1)
        state["conv_out.weight"] = _padded(last, length, dim=0)
        state["conv_out.bias"] = _padded(state["conv_out.bias"], length, dim=0)
        if given != self.vae.config["latent_channels"]:
            raise ModelError(
                f"unet reads {given} channels, its autoencoder gives {self.vae.config['latent_channels']}: take both "
                "from one model"
            )
        self.unet.load_state_dict(state)

    @torch.no_grad()
    def image_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) uint8 to the mean of the autoencoder's posterior, scaled, (B, 4, H / 8, W / 8)."""
        scaled = pixels.to(next(self.vae.parameters()).dtype) / 127.5 - 1
        latents: torch.Tensor = self.vae.encode(scaled).latent_dist.mean
        return latents * float(self.vae.config["scaling_factor"])

    def forward(
        self, z: torch.Tensor, context: torch.Tensor, latents: torch.Tensor | None, t: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """z_t (B, length, h, w), fused features (B, D, h, w), image latents, times in 0..1 to the code of z0 and the
        middle block's output.
        """
        assert latents is not None, "of this form's context"
        size = (min(_TOKENS_A_SIDE, context.shape[-2]), min(_TOKENS_A_SIDE, context.shape[-1]))
        tokens = self.told(functional.adaptive_avg_pool2d(context, size).flatten(2).transpose(1, 2))
        middle: list[torch.Tensor] = []
        handle = self.unet.mid_block.register_forward_hook(lambda _, __, output: middle.append(output))
        try:
            z0 = self.unet(torch.cat([z, latents], dim=1), t * 1000, tokens, return_dict=False)[0]
        finally:
            handle.remove()
        return z0, middle[0]


def _padded(weights: torch.Tensor, number: int, dim: int) -> torch.Tensor:
    """The first `number` slices along `dim`, with zeros behind the last."""
    kept = weights.narrow(dim, 0, min(number, weights.shape[dim]))
    missing = number - kept.shape[dim]
    if not missing:
        return kept
    shape = list(kept.shape)
    shape[dim] = missing
    return torch.cat([kept, kept.new_zeros(shape)], dim=dim)


def _require_fit(unet: Any, vae: Any) -> None:
    """Raise ModelError for a UNet or an autoencoder that this denoiser has no use for."""
    stride = 2 ** (len(vae.config["block_out_channels"]) - 1)
    if stride != STRIDE:
        raise ModelError(
            f"network 'latent_diffusion': vae: gives latents at a resolution of 1 / {stride}, must be 1 / {STRIDE}: "
            "take the model of another family, as Stable Diffusion 1.5 or 2.1"
        )
    other = next((name for name in _OTHER_CONDITIONS if unet.config.get(name) is not None), None)
    if other or unet.mid_block is None:
        why = f"{other} {excerpt(unet.config[other])}: reads more than text" if other else "has no middle block"
        raise ModelError(
            f"network 'latent_diffusion': unet: {why}: take the model of another family, as Stable Diffusion 1.5 or 2.1"
        )


def own_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of diffusers as plain JSON values, without what it notes about the file (a path among it)."""
    return {key: value for key, value in config.items() if not key.startswith("_")}
