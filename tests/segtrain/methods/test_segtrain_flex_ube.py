"""UBE's weights and the other treatments of the boundary against loops over pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from segtrain.losses import mean_over, pixel_losses
from segtrain.methods.flex_seg.config import BoundarySettings
from segtrain.methods.flex_seg.ube import emphasised, entropy, entropy_weights


def a_batch(seed: int = 0, size: tuple[int, int, int] = (3, 20, 24)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of 4 classes, targets with holes, and a band; the third picture's band has 10 pixels, under the 64."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(scale=2, size=(size[0], 4, *size[1:]))).float()
    targets = torch.from_numpy(rng.choice([0, 1, 2, 3, 254, 255], size=size)).to(torch.uint8)
    in_band = torch.from_numpy(rng.random(size) < 0.4) & (targets < 254)
    few = in_band[2].nonzero()[10:]
    in_band[2, few[:, 0], few[:, 1]] = False
    return logits, targets, in_band


def slow_entropy(logits: torch.Tensor) -> np.ndarray:
    values = logits.double().numpy()
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    p = powers / powers.sum(axis=1, keepdims=True)
    return -(p * np.log(p)).sum(axis=1)


def test_entropy_is_that_of_the_softmax_without_gradient() -> None:
    logits = a_batch()[0].requires_grad_()
    assert not entropy(logits).requires_grad
    assert entropy(logits).numpy() == pytest.approx(slow_entropy(logits.detach()), abs=1e-5)
    assert entropy(torch.zeros(1, 4, 1, 1)).item() == pytest.approx(math.log(4))


def test_weights_against_a_loop_over_pixels() -> None:
    logits, _, in_band = a_batch()
    entropies, band = slow_entropy(logits), in_band.numpy()
    assert band[0].sum() >= 64 > band[2].sum() == 10
    weights = entropy_weights(entropy(logits), in_band, 3.0).numpy()
    for picture, row, column in np.ndindex(*band.shape):
        if not band[picture, row, column]:
            assert weights[picture, row, column] == 1
            continue
        of = entropies[picture][band[picture]] if band[picture].sum() >= 64 else entropies[band]
        z = (entropies[picture, row, column] - of.mean()) / (of.std() + 1e-6)
        assert weights[picture, row, column] == pytest.approx(1 + 3 / (1 + math.exp(-z)), abs=1e-4)


@pytest.mark.parametrize(("pixels", "own"), [(63, False), (64, True)])
def test_a_band_of_64_pixels_has_statistics_of_its_own(pixels: int, own: bool) -> None:
    entropies = torch.stack([torch.linspace(0, 1, 100), torch.linspace(5, 9, 100)])[:, None]
    in_band = torch.zeros(2, 1, 100, dtype=torch.bool)
    in_band[0, 0, :pixels] = in_band[1] = True
    of = entropies[0, 0, :pixels] if own else entropies[in_band]
    z = (entropies[0, 0, 0] - of.mean()) / of.std(correction=0)
    expected = 1 + 3 * torch.sigmoid(z).item()
    assert entropy_weights(entropies, in_band, 3.0)[0, 0, 0].item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", ["normal", "exponential", "nearly certain"])
def test_ube_is_on_average_a_constant_of_about_two_and_a_half(kind: str) -> None:
    """Whatever the network knows: so `enhance` with 2.5 is its fair control."""
    rng = np.random.default_rng(0)
    shape = (4, 50, 50)
    values = {
        "normal": rng.normal(1.0, 0.3, shape),
        "exponential": rng.exponential(0.5, shape),
        "nearly certain": rng.exponential(1e-4, shape),
    }[kind]
    weights = entropy_weights(torch.from_numpy(values).float(), torch.ones(shape, dtype=torch.bool), 3.0)
    assert 2.4 < weights.mean().item() < 2.6
    assert weights.min().item() > 1 and weights.max().item() <= 4


@pytest.mark.parametrize("strategy", ["none", "ignore", "reduce", "clip", "enhance"])
def test_each_treatment_of_the_boundary_is_what_it_says(strategy: str) -> None:
    logits, targets, in_band = a_batch()
    settings = BoundarySettings(boundary_strategy=strategy, boundary_clip=0.7)  # type: ignore[arg-type]
    losses, labelled = pixel_losses(logits, targets)
    made = emphasised(losses, logits, in_band, settings)
    total = 0.0
    for place in np.ndindex(*targets.shape):
        if targets[place] >= 254:
            assert losses[place] == 0 and not labelled[place]
            continue
        scores = logits[place[0], :, place[1], place[2]].double()
        ce = float(scores.logsumexp(0) - scores[int(targets[place])])
        change = {"none": ce, "ignore": 0.0, "reduce": 0.5 * ce, "clip": min(0.7, ce), "enhance": 2.5 * ce}
        expected = change[strategy] if in_band[place] else ce
        assert made[place].item() == pytest.approx(expected, abs=1e-4)
        total += expected
    assert mean_over(made, labelled).item() == pytest.approx(total / (targets < 254).sum().item(), rel=1e-4)


def test_ube_multiplies_the_loss_and_is_not_divided_by_its_weights() -> None:
    logits, targets, in_band = a_batch()
    losses, labelled = pixel_losses(logits, targets)
    made = emphasised(losses, logits, in_band, BoundarySettings(boundary_strategy="ube", ube_alpha=2.0))
    weights = entropy_weights(entropy(logits), in_band, 2.0)
    assert torch.allclose(made, weights * losses)
    assert mean_over(made, labelled).item() > 1.2 * mean_over(losses, labelled).item()


def test_nothing_labelled_and_no_band_are_no_nan() -> None:
    logits, targets, in_band = a_batch()
    void = torch.full_like(targets, 255)
    losses, labelled = pixel_losses(logits.requires_grad_(), void)
    none = torch.zeros_like(in_band)
    loss = mean_over(emphasised(losses, logits, none, BoundarySettings()), labelled)
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and not logits.grad.any()
    one = none.clone()
    one[0, 0, 0] = True
    assert torch.isfinite(entropy_weights(entropy(logits), one, 3.0)).all()
