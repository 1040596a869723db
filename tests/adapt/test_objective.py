"""The loss of an adaptation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.adapt.networks import add_lora, control_config, load_denoiser, new_controlnet, read_base
from synthgen.adapt.objective import Objective
from synthgen.adapt_settings import ControlNet, Lora
from synthgen.training.flow import noised


def batch(size: int = 3) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    return {
        "latents": torch.randn(size, 4, 16, 24, generator=rng).half(),
        "control": torch.randn(size, 4, 16, 24, generator=rng).half(),
        "states": torch.randn(size, 16, 64, generator=rng).half(),
        "pooled": torch.randn(size, 64, generator=rng).half(),
    }


def objective(base: Path, **changes: Any) -> Objective:
    read = read_base(str(base))
    torch.manual_seed(0)
    denoiser = load_denoiser(read, torch.float32)
    asked = ControlNet.model_validate({"weighting": "sigma"} | changes)
    net = new_controlnet(control_config(read, asked, 0), denoiser, asked)
    with torch.no_grad():
        for weight in (*net.controlnet_blocks.parameters(), *net.pos_embed_input.parameters()):
            weight.normal_(std=0.05)
    return Objective(denoiser, net, asked, changes.pop("shift", 1.0))


@pytest.mark.parametrize("weighting", ["sigma", "none"])
@pytest.mark.parametrize("zeros", [False, True])
def test_the_loss_is_that_of_velocity_and_picture_by_hand(base: Path, weighting: str, zeros: bool) -> None:
    model = objective(base, weighting=weighting)
    model.controlnet.register_to_config(force_zeros_for_pooled_projection=zeros)
    given_ = batch()
    torch.manual_seed(9)
    losses = model(given_)
    torch.manual_seed(9)
    data, states, pooled = (given_[name].float() for name in ("latents", "states", "pooled"))
    mixed, sigma, target = noised(data, uniform=0.0)
    expected = []
    for n in range(3):  # one by one
        at = slice(n, n + 1)
        fed = torch.zeros_like(pooled[at]) if zeros else pooled[at]
        parts = model.controlnet(
            mixed[at], given_["control"][at].float(), 1.0, states[at], fed, sigma[at] * 1000, return_dict=False
        )[0]
        made = model.denoiser(mixed[at], states[at], pooled[at], sigma[at] * 1000, parts, return_dict=False)[0]
        if weighting == "none":
            expected.append((made - target[at]).square().mean())
        else:  # the picture that a velocity stands for is x - sigma v
            picture = mixed[at] - sigma[at].view(-1, 1, 1, 1) * made
            expected.append((picture - data[at]).square().mean())
    torch.testing.assert_close(losses["loss"], torch.stack(expected).mean(), atol=1e-5, rtol=1e-4)


def test_gradients_reach_the_controlnet_and_never_the_base(base: Path) -> None:
    model = objective(base)
    model(batch())["loss"].backward()
    assert all(weight.grad is None for weight in model.denoiser.parameters())
    assert all(weight.grad is not None for weight in model.controlnet.controlnet_blocks.parameters())
    assert model.controlnet.pos_embed_input.proj.weight.grad.abs().sum() > 0


def test_gradient_checkpointing_changes_no_gradient(base: Path) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = objective(base)
        if checkpointing:
            model.denoiser.enable_gradient_checkpointing()
            model.controlnet.enable_gradient_checkpointing()
        model.train()
        torch.manual_seed(3)
        model(batch())["loss"].backward()
        gradients.append([p.grad for p in model.controlnet.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_without_a_controlnet_the_low_rank_change_learns(base: Path) -> None:
    denoiser = load_denoiser(read_base(str(base)), torch.float32)
    add_lora(denoiser, Lora(rank=2, alpha=2))
    model = Objective(denoiser, None, Lora(), 1.0)
    model(batch())["loss"].backward()
    moved = {name.rsplit(".", 3)[-3] for name, p in denoiser.named_parameters() if p.grad is not None}
    assert moved == {"lora_A", "lora_B"}


@settings(deadline=None, max_examples=40)
@given(st.floats(1.0, 6.0), st.floats(0.0, 1.0))
def test_noise_levels_are_moved_as_the_scheduler_moves_them(shift: float, uniform: float) -> None:
    data = torch.randn(64, 1, 2, 2)
    torch.manual_seed(4)
    _, plain, _ = noised(data, uniform)
    torch.manual_seed(4)
    mixed, moved, velocity = noised(data, uniform, shift)
    torch.testing.assert_close(moved, shift * plain / (1 + (shift - 1) * plain))
    noise = data + velocity
    torch.testing.assert_close(mixed, data + moved.view(-1, 1, 1, 1) * (noise - data))
    assert moved.min() > 0
    assert moved.max() < 1
