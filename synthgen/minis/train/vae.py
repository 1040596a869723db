"""Trains the mini AutoencoderKL: 4x smaller, 4 channels, on crops of both drawn worlds and of painted label maps.

Label maps are among the data because the ControlNet pipeline encodes its condition with this same VAE.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from diffusers import AutoencoderKL

from synthgen.drawn import streets
from synthgen.minis.train.arguments import add_arguments, schedule_of
from synthgen.minis.train.model_card import write_model_card
from synthgen.minis.train.scenes import Scenes, scenes
from synthgen.training.latents import encode
from synthgen.training.loop import train

CROP_PX = 64
CONFIG = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (24, 48, 64),
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "sample_size": CROP_PX,
    "mid_block_add_attention": False,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "scaling_factor": 1.0,
    "shift_factor": 0.0,
}


class Objective(torch.nn.Module):
    """L1 + squared error + a light KL term, which keeps the latents near unit scale."""

    def __init__(self, vae: AutoencoderKL, kl: float) -> None:
        super().__init__()
        self.vae = vae
        self.kl = kl

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """(N, 3, H, W) float in [-1, 1]."""
        images = images.to(next(self.vae.parameters()).device)
        posterior = self.vae.encode(images).latent_dist
        error = self.vae.decode(posterior.sample()).sample.float() - images
        square, absolute, kl = error.square().mean(), error.abs().mean(), posterior.kl().mean() / images[0, 0].numel()
        # a blurred edge costs little in square error and much to the eye
        slope = (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
        loss = square + 0.25 * absolute + 0.25 * slope + self.kl * kl
        return {"loss": loss, "square": square.detach(), "kl": kl.detach()}


def batches(objects: Scenes, street: Scenes) -> Any:
    """A batch: one half objects, three eighths streets, one eighth painted street maps; random 64 px crops."""
    palette = np.array([*streets.PALETTE, *[(0, 0, 0)] * (256 - len(streets.PALETTE))], dtype=np.uint8)

    def batch_of(rng: np.random.Generator, size: int) -> torch.Tensor:
        crops = np.empty((size, CROP_PX, CROP_PX, 3), dtype=np.uint8)
        for n in range(size):
            kind = n % 8
            if kind < 4:
                picture = objects.images[int(rng.integers(len(objects.images)))]
            elif kind < 7:
                picture = street.images[int(rng.integers(len(street.images)))]
            else:
                picture = palette[street.masks[int(rng.integers(len(street.masks)))]]
            top = rng.integers(picture.shape[0] - CROP_PX + 1)
            left = rng.integers(picture.shape[1] - CROP_PX + 1)
            crop = picture[top : top + CROP_PX, left : left + CROP_PX]
            crops[n] = crop[:, ::-1] if rng.random() < 0.5 else crop
        return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 127.5 - 1

    return batch_of


@torch.no_grad()
def equalise(vae: AutoencoderKL, images: np.ndarray) -> None:
    """Rescale each latent channel to one common std (exact, in the encoder's last and the decoder's first convolution)
    and set the scalar scaling and shift that the SD3 pipelines use. `images` (N, H, W, 3) uint8."""
    latents = torch.cat([encode(vae, images[i : i + 64]) for i in range(0, len(images), 64)])
    scale = 1 / latents.std(dim=(0, 2, 3))
    channels = len(scale)
    last, first = vae.encoder.conv_out, vae.decoder.conv_in
    last.weight[:channels] *= scale[:, None, None, None]
    last.bias[:channels] *= scale
    last.bias[channels:] += 2 * scale.log()  # the posterior's log variance follows its mean
    first.weight /= scale[None, :, None, None]
    latents = latents * scale[None, :, None, None]
    shift = float(latents.mean())
    vae.register_to_config(scaling_factor=float(1 / (latents - shift).std()), shift_factor=shift)


@torch.no_grad()
def psnr_db(vae: AutoencoderKL, images: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each reconstruction, dB, of (N, H, W, 3) uint8."""
    values = []
    for start in range(0, len(images), 64):
        part = images[start : start + 64]
        pixels = vae.decode(encode(vae, part).to(next(vae.parameters()).device)).sample.float().cpu()
        back = ((pixels.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()
        values.append(10 * np.log10(255**2 / np.square(back - part.astype(np.float32)).mean(axis=(1, 2, 3))))
    return np.concatenate(values)


def main(argv: list[str]) -> None:
    """`python -m synthgen.minis.train vae`."""
    parser = argparse.ArgumentParser(prog="python -m synthgen.minis.train vae", description=__doc__)
    add_arguments(parser, minutes=20, batch_size=16, learning_rate=2e-3)
    parser.add_argument("--scenes", type=int, default=8000, help="drawn scenes of each world")
    parser.add_argument("--kl", type=float, default=5e-5)
    arguments = parser.parse_args(argv)
    objects = scenes("objects", arguments.scenes, cache=arguments.cache)
    street = scenes("streets", arguments.scenes, cache=arguments.cache)
    torch.manual_seed(arguments.seed)
    vae = AutoencoderKL(**CONFIG)
    facts = train(
        Objective(vae, arguments.kl), batches(objects, street), schedule_of(arguments, ema=0.995), arguments.out
    )
    if PartialState().is_main_process:
        finish(vae, objects, street, facts, arguments.out)


def finish(vae: AutoencoderKL, objects: Scenes, street: Scenes, facts: dict[str, Any], out: Path) -> None:
    """Equalise, save and print the quality on the last scenes of the training set (the benchmark uses held-out
    ones)."""
    equalise(vae, np.concatenate([objects.images[:512, :CROP_PX, :CROP_PX], street.images[:512, :CROP_PX, :CROP_PX]]))
    vae.save_pretrained(out / "model")
    worlds = {"objects": objects, "streets": street}
    quality = {
        f"PSNR, {world} (training scenes)": f"{psnr_db(vae, data.images[-200:]).mean():.1f} dB"
        for world, data in worlds.items()
    }
    write_model_card(
        out / "model",
        "mini VAE: AutoencoderKL, 4 channels, 4x smaller",
        "Shared by mini/objects and mini/streets. Its latent channels have one common scale.",
        f"{len(objects)} objects scenes, {len(street)} streets scenes and painted street maps, all drawn by the "
        "project",
        facts,
        quality,
        "Fine lines of one pixel are softened.",
    )
    print(facts, quality)
