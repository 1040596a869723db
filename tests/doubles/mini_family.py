"""A mini family with random weights, saved as the training saves it:

narrower than the shipped one unless asked otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, SD3ControlNetModel, SD3Transformer2DModel

from synthgen.minis.train import diffusion, vae
from synthgen.training.flow import Flow
from synthgen.training.pipelines import save


def random_flow(length: int = 16, *, width: int = 48, layers: int = 2, heads: int = 2) -> Flow:
    """The denoiser and its text encoders."""
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diffusion, "WIDTH", width)
        patch.setattr(diffusion, "LAYERS", layers)
        patch.setattr(diffusion, "HEADS", heads)
        patch.setattr(diffusion, "TEXT_WIDTH", 32)
        return diffusion.mini_flow(length)


def random_vae(*widths: int) -> AutoencoderKL:
    """The VAE of the minis, 4x smaller a side; `widths` are its channels."""
    torch.manual_seed(1)
    return AutoencoderKL(**vae.CONFIG | ({"block_out_channels": widths} if widths else {}))


def write_family(folder: Path, control_layers: int = 0) -> Path:
    """A narrow family in `folder`, with `controlnet/` if asked for."""
    save(random_flow(), random_vae(8, 16, 16), folder)
    if control_layers:
        write_controlnet(folder / "controlnet", folder, num_layers=control_layers)
    return folder


def write_trained_size(folder: Path) -> Path:
    """A family of the shipped one's shape (192 wide, 6 layers)."""
    save(random_flow(length=24, width=192, layers=6, heads=6), random_vae(), folder)
    return folder


def write_controlnet(folder: Path, family: Path, **changes: Any) -> Path:
    """A ControlNet of random weights for a family, in `folder`; `changes` are keys of its configuration.

    The layers that training starts from zero are random too: at zero a ControlNet changes nothing.
    """
    base = SD3Transformer2DModel.load_config(family, subfolder="transformer")
    shared = ("patch_size", "in_channels", "out_channels", "attention_head_dim", "num_attention_heads", "qk_norm")
    joint = ("joint_attention_dim", "caption_projection_dim", "pooled_projection_dim", "pos_embed_max_size")
    torch.manual_seed(2)
    net = SD3ControlNetModel(**{**{key: base[key] for key in (*shared, *joint)}, "num_layers": 1, **changes})
    for layer in (*net.controlnet_blocks, net.pos_embed_input.proj):
        torch.nn.init.normal_(layer.weight, std=0.3)
    net.save_pretrained(folder)
    return folder


SINGLE_STREAM = {
    "joint_attention_dim": None,
    "pos_embed_max_size": None,
    "pos_embed_type": None,
    "use_pos_embed": False,
    "qk_norm": None,
    "force_zeros_for_pooled_projection": False,
}
"""Of the kind that Stability publishes for SD3.5-Large: no text, positions of the transformer."""
