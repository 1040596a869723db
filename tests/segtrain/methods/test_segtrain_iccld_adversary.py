"""The adversary: what pushes whom where, and that a killed training finds it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from segtrain.methods.iccld.adversary import Adversary, Discriminator
from segtrain.methods.iccld.config import Config


def config(**values: Any) -> Config:
    return Config(
        data=("d",), unlabelled=("u",), out=Path("o"), discriminator_width=8, discriminator_layers=2, **values
    )


def adversary(**values: Any) -> Adversary:
    return Adversary(4, config(discriminator_learning_rate=1e-2, **values), 0, torch.device("cpu"))


def features(offset: float, seed: int) -> torch.Tensor:
    return torch.randn(6, 4, 16, 16, generator=torch.Generator().manual_seed(seed)) + offset


@torch.no_grad()
def judged(one: Adversary, h: torch.Tensor, t: torch.Tensor) -> float:
    return float(one.network(h, t).mean())


def test_it_learns_to_say_source_0_and_target_1() -> None:
    one, t = adversary(), torch.full((6,), 0.5)
    for step in range(60):
        loss = one.learn([(features(-1, step), t)], (features(1, 1000 + step), t), 1.0)
    assert float(loss) < 0.1
    assert judged(one, features(-1, 5000), t) < 0.3
    assert judged(one, features(1, 5001), t) > 0.7


def test_its_loss_is_the_formula() -> None:
    one, t = adversary(), torch.rand(6)
    source, mixed, target = features(0, 1), features(1, 2), features(2, 3)
    a, b, c = (one.network(h, t).detach() for h in (source, mixed, target))
    expected = ((a**2).mean() + (b**2).mean()) / 2 + ((c - 1) ** 2).mean()
    assert float(one.learn([(source, t), (mixed, t)], (target, t), 1.0)) == pytest.approx(float(expected) / 2, rel=1e-5)


def test_fooling_moves_target_features_towards_source_and_not_the_discriminator() -> None:
    one, t = adversary(), torch.full((6,), 0.5)
    for step in range(60):
        one.learn([(features(-1, step), t)], (features(1, 1000 + step), t), 1.0)
    target = features(1, 7).requires_grad_()
    before = judged(one, target.detach(), t)
    one.network.zero_grad()
    one.fooling(target, t).backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in one.network.parameters())
    assert target.grad is not None
    moved = target.detach() - 50 * target.grad
    assert judged(one, moved, t) < before


def test_learning_leaves_the_features_alone() -> None:
    one, t = adversary(), torch.rand(6)
    source, target = features(0, 1).requires_grad_(), features(0, 2).requires_grad_()
    one.learn([(source, t)], (target, t), 1.0)
    assert source.grad is None and target.grad is None


def test_at_rate_0_it_does_not_move() -> None:
    one, t = adversary(), torch.rand(6)
    before = {name: tensor.clone() for name, tensor in one.network.state_dict().items()}
    one.learn([(features(0, 1), t)], (features(0, 2), t), 0.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in one.network.state_dict().items())


def test_it_sees_the_time() -> None:
    network = Discriminator(4, 8, 2)
    h = features(0, 0)
    assert not torch.equal(network(h, torch.zeros(6)), network(h, torch.ones(6)))


def test_a_state_goes_on_as_if_nothing_had_been() -> None:
    whole, cut, t = adversary(), adversary(), torch.rand(6)

    def step(one: Adversary, number: int) -> None:
        one.learn([(features(-1, number), t)], (features(1, 100 + number), t), 1.0)

    for number in range(4):
        step(whole, number)
    for number in range(2):
        step(cut, number)
    resumed = adversary()
    resumed.load_state(cut.state())
    for number in range(2, 4):
        step(resumed, number)
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name
