"""The cosine schedule, and DDIM against its formula written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.networks.diffusion.schedule import T_MIN, alpha_sigma, ddim, loss_weights, noise_of, noised


@given(st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_shares_keep_the_variance_and_follow_the_log_snr(t: float) -> None:
    alpha, sigma = (float(part) for part in alpha_sigma(torch.tensor([t], dtype=torch.float64)))
    assert alpha**2 + sigma**2 == pytest.approx(1)
    if 0.01 < t < 0.99:
        assert math.log(alpha**2 / sigma**2) == pytest.approx(-2 * math.log(math.tan(math.pi * t / 2)))


def test_ends_of_the_way_are_latents_and_noise() -> None:
    latents, noise = torch.ones(2, 1, 1, 1), torch.full((2, 1, 1, 1), 5.0)
    assert noised(latents, noise, torch.tensor([0.0, 1.0])).flatten().tolist() == pytest.approx([1, 5], abs=1e-6)


def test_weights_are_the_clamped_snr() -> None:
    t = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)
    snr = 1 / torch.tan(math.pi * t / 2) ** 2
    expected = torch.where(snr > 2, torch.ones_like(snr), snr / 2)
    assert torch.allclose(loss_weights(t, 2.0), expected)


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_ddim_is_its_formula(steps: int) -> None:
    def denoise(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return 0.3 * z.tanh() + t.view(-1, 1, 1, 1)

    noise = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z, made = noise.numpy(), None
    for number in range(steps):
        now, then = max(1 - number / steps, T_MIN), 1 - (number + 1) / steps
        made = 0.3 * np.tanh(z) + now
        eps = (z - math.cos(math.pi * now / 2) * made) / math.sin(math.pi * now / 2)
        z = math.cos(math.pi * then / 2) * made + math.sin(math.pi * then / 2) * eps
    assert np.allclose(ddim(denoise, noise, steps).numpy(), made)


def test_a_denoiser_that_knows_is_believed_whatever_the_noise() -> None:
    truth = torch.randn(1, 2, 3, 3)
    assert torch.allclose(ddim(lambda z, t: truth, torch.randn(1, 2, 3, 3), 5), truth)


def test_noise_follows_from_the_pixels_alone() -> None:
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    whole = noise_of(images, (2, 4, 4))
    assert torch.equal(noise_of(images[[2, 0]], (2, 4, 4)), whole[[2, 0]])
    assert torch.equal(noise_of(images[1:2].flip(-1).flip(-1), (2, 4, 4)), whole[1:2])
    changed = images.clone()
    changed[0, 0, 0, 0] ^= 1
    assert not torch.equal(noise_of(changed, (2, 4, 4))[0], whole[0])
    assert not torch.equal(noise_of(images, (2, 4, 4), number=1), whole)
    assert abs(float(noise_of(images, (8, 32, 32)).std()) - 1) < 0.02
