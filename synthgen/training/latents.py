"""Pictures and captions made ready for a latent diffusion model: encoded once, kept on the disk."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL

from synthgen.training.flow import tokenize
from synthgen.training.loop import BatchOf

_ENCODED_AT_ONCE = 128
_TOKENIZED_AT_ONCE = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class Latents:
    """A training set as the denoiser sees it."""

    images: torch.Tensor  # (N, C, h, w) float16: (raw - shift) * scaling
    tokens: torch.Tensor  # (N, T) int16


@torch.no_grad()
def encode(vae: AutoencoderKL, images: np.ndarray) -> torch.Tensor:
    """(N, H, W, 3) uint8 -> raw posterior means (N, C, h, w) float32, neither scaled nor shifted."""
    device = next(vae.parameters()).device
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).to(device).float() / 127.5 - 1
    means: torch.Tensor = vae.encode(pixels).latent_dist.mean
    return means.float().cpu()


def latents_of(
    vae: AutoencoderKL,
    images: Any,
    captions: Sequence[str],
    tokenizer: Any,
    cache: Path,
) -> Latents:
    """Encode a set once; kept in `cache` under a name that follows from the VAE's weights and the pictures.

    images: rows (N, H, W, 3) uint8: an array, or what gives an array for a slice.
    """
    scale, shift = vae.config.scaling_factor, vae.config.shift_factor
    blocks = range(0, len(captions), _TOKENIZED_AT_ONCE)
    ids = [tokenize(tokenizer, list(captions[start : start + _TOKENIZED_AT_ONCE])) for start in blocks]
    of_images = _stored(vae, images, cache / "latents-images", lambda rows: (encode(vae, rows) - shift) * scale)
    return Latents(of_images, torch.cat(ids).to(torch.int16))


def batches(latents: Latents) -> BatchOf:
    """`batch_of(rng, size)`: rows drawn with replacement."""

    def batch_of(rng: np.random.Generator, size: int) -> dict[str, torch.Tensor]:
        rows = torch.from_numpy(rng.integers(len(latents.images), size=size))
        return {"latents": latents.images[rows], "tokens": latents.tokens[rows]}

    return batch_of


def _stored(vae: AutoencoderKL, rows: Any, prefix: Path, encoded: Callable[[np.ndarray], torch.Tensor]) -> torch.Tensor:
    """(N, C, h, w) float16 of all rows: read, or encoded and written under a digest of weights and rows."""
    parts = [slice(start, start + _ENCODED_AT_ONCE) for start in range(0, len(rows), _ENCODED_AT_ONCE)]
    digest = hashlib.blake2b(digest_size=8)
    for weight in vae.state_dict().values():
        digest.update(weight.float().cpu().numpy().tobytes())
    for part in parts:
        digest.update(np.ascontiguousarray(rows[part]).tobytes())
    path = prefix.with_name(f"{prefix.name}-{rows.shape[1]}x{rows.shape[2]}-{len(rows)}-{digest.hexdigest()}.pt")
    if not path.is_file():
        temporary = path.with_suffix(".tmp")
        torch.save(torch.cat([encoded(rows[part]).half() for part in parts]), temporary)
        temporary.replace(path)
    latents: torch.Tensor = torch.load(path, weights_only=True)
    return latents
