"""From label latents to noise and back: the cosine schedule, and DDIM's way of a few steps.

Time t runs from 0, the latents, to 1, noise: z_t = alpha z + sigma eps with alpha = cos(pi t / 2), sigma = sin(pi t /
2), so that log SNR = -2 log tan(pi t / 2) (DDP, Ji et al., ICCV 2023; Nichol and Dhariwal, ICML 2021). The denoiser
predicts z itself: labels are discrete.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import torch

T_MIN = 1e-3  # below, the noise that DDIM divides by is nothing


def alpha_sigma(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Shares of the latents and of the noise at times (B,) in 0..1, each (B, 1, 1, 1); their squares add up to 1."""
    angle = t.view(-1, 1, 1, 1) * (math.pi / 2)
    return angle.cos(), angle.sin()


def noised(latents: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """z_t of (B, n, h, w) latents and noise at times (B,)."""
    alpha, sigma = alpha_sigma(t)
    return alpha * latents + sigma * noise


def loss_weights(t: torch.Tensor, most: float) -> torch.Tensor:
    """(B,) min(SNR, most) / most: what a squared error of a predicted z counts (min-SNR, Hang et al., ICCV 2023).

    In 0..1: 1 where the signal is strong, near 0 where z_t is noise. For a predicted noise it would be over SNR.
    """
    alpha, sigma = (part.flatten() for part in alpha_sigma(t))
    snr = alpha.square() / sigma.square().clamp(min=1e-12)
    return snr.clamp(max=most) / most


def ddim(
    denoise: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], noise: torch.Tensor, steps: int
) -> torch.Tensor:
    """The latents that `denoise(z_t, t)` -> z reaches from noise (B, n, h, w) in equal steps of time, without new noise
    (DDIM, Song et al., ICLR 2021, eta = 0). With one step it is what `denoise` says of the noise.
    """
    z, made = noise, noise
    times = [1 - number / steps for number in range(steps)]
    for now, then in zip(times, [*times[1:], 0.0], strict=True):
        t = noise.new_full((len(noise),), max(now, T_MIN))
        made = denoise(z, t)
        alpha, sigma = alpha_sigma(t)
        alpha_then, sigma_then = alpha_sigma(noise.new_full((len(noise),), then))
        z = alpha_then * made + sigma_then * (z - alpha * made) / sigma
    return made


def noise_of(images: torch.Tensor, shape: tuple[int, int, int], number: int = 0) -> torch.Tensor:
    """Standard normal noise (B, *shape) float32 that follows from the pixels of each image (B, 3, H, W) uint8 alone:
    not from its batch, its place, or the device. `number` tells several draws for one image apart.
    """
    made = []
    for image in images.cpu():
        digest = hashlib.blake2b(image.contiguous().numpy().tobytes(), digest_size=8, salt=number.to_bytes(16, "big"))
        generator = torch.Generator().manual_seed(int.from_bytes(digest.digest(), "big") >> 1)
        made.append(torch.randn(shape, generator=generator))
    return torch.stack(made).to(images.device)
