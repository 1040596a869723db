"""Groups of parameters: rates, clipping, stages, and freezing that is exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from segtrain.config import TrainConfig
from segtrain.errors import ConfigError
from segtrain.optimiser import Group, Optimiser, assign

CPU = torch.device("cpu")


def network() -> nn.Module:
    torch.manual_seed(0)
    parts = {
        "encoder": nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)),
        "head": nn.Sequential(nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2)),
    }
    return nn.Sequential(parts["encoder"], parts["head"]).eval()


def train_on(net: nn.Module, optimiser: Optimiser, groups: tuple[Group, ...], steps: int, rate: float = 0.1) -> None:
    for step in range(steps):
        optimiser.regroup(groups)
        torch.manual_seed(step)
        net(torch.randn(2, 3, 4, 4)).square().sum().backward()
        optimiser.step(rate)


def changed(net: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}


def copy_of(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def test_one_group_is_plain_adamw(settings: Callable[..., TrainConfig]) -> None:
    config = settings(learning_rate=0.1, weight_decay=0.02)
    ours, theirs = network(), network()
    train_on(ours, Optimiser(ours, config, CPU), (Group(),), 3)
    adam = torch.optim.AdamW(theirs.parameters(), lr=0.1, weight_decay=0.02, fused=True)
    theirs.train()
    for step in range(3):
        torch.manual_seed(step)
        adam.zero_grad()
        theirs(torch.randn(2, 3, 4, 4)).square().sum().backward()
        adam.step()
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())


def test_what_is_frozen_does_not_move_by_a_bit_and_comes_back_to_life(settings: Callable[..., TrainConfig]) -> None:
    """No gradient, no weight decay, no batch statistics, no dropout."""
    net = network()
    optimiser = Optimiser(net, settings(weight_decay=0.5), CPU)
    before = copy_of(net)
    train_on(net, optimiser, (Group(("0.*",), frozen=True), Group()), 3)
    assert {name.partition(".")[0] for name in changed(net, before)} == {"1"}
    assert not any(module.training for module in net[0].modules()) and net[1][1].training
    before = copy_of(net)
    train_on(net, optimiser, (Group(),), 1)
    assert {name.partition(".")[0] for name in changed(net, before)} == {"0", "1"}
    assert all(module.training for module in net.modules())


def test_a_part_of_what_is_frozen_can_learn_if_it_comes_first(settings: Callable[..., TrainConfig]) -> None:
    net = network()
    before = copy_of(net)
    train_on(net, Optimiser(net, settings(), CPU), (Group(("0.1.*",)), Group(("0.*",), frozen=True), Group()), 2)
    assert not any(name.startswith("0.0.") for name in changed(net, before))
    assert {"0.1.weight", "0.1.running_mean"} <= changed(net, before)
    assert not net[0][2].training, "the dropout is of the frozen part"


def test_the_rate_of_a_group_is_a_factor(settings: Callable[..., TrainConfig]) -> None:
    """AdamW's first step is the rate times the sign of the gradient, whatever its size."""
    net = network()
    before = copy_of(net)
    groups = (Group(("1.*",), rate=10.0), Group())
    train_on(net, Optimiser(net, settings(weight_decay=0.0), CPU), groups, 1, rate=0.01)
    moved = {name: (net.state_dict()[name] - before[name]).abs().max().item() for name in ("0.0.weight", "1.0.weight")}
    assert moved["0.0.weight"] == pytest.approx(0.01, rel=0.05)
    assert moved["1.0.weight"] == pytest.approx(0.1, rel=0.05)


def test_weight_decay_of_a_group(settings: Callable[..., TrainConfig]) -> None:
    net = network()
    with torch.no_grad():
        net[1][0].bias.fill_(3.0)  # batch norm follows: its gradient is 0, so decay alone moves it
    optimiser = Optimiser(net, settings(weight_decay=0.5), CPU)
    train_on(net, optimiser, (Group(("*.bias",), weight_decay=0.0), Group()), 1, rate=0.01)
    assert net[1][0].bias.tolist() == pytest.approx([3.0, 3.0], abs=0.011)
    optimiser.regroup((Group(),))
    with torch.no_grad():
        net[1][0].bias.fill_(3000.0)
    train_on(net, optimiser, (Group(),), 1, rate=0.01)
    assert net[1][0].bias.tolist() == pytest.approx([2985.0, 2985.0], abs=0.1)


def test_groups_with_the_same_clip_are_clipped_together(settings: Callable[..., TrainConfig]) -> None:
    net = network()
    optimiser = Optimiser(net, settings(), CPU)
    optimiser.regroup((Group(("0.0.*",), clip=0.5), Group(("1.0.*",), rate=2.0, clip=0.5), Group()))
    norms: dict[str, float] = {}
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)

    def look(*_: object) -> None:
        for name in ("0.0", "1.0", "0.1"):
            gradients = [p.grad for n, p in net.named_parameters() if n.startswith(name) and p.grad is not None]
            norms[name] = torch.cat([g.ravel() for g in gradients]).norm().item()

    assert optimiser._adam is not None
    optimiser._adam.register_step_pre_hook(look)
    optimiser.step(0.1)
    assert norms["0.0"] ** 2 + norms["1.0"] ** 2 == pytest.approx(0.25, rel=1e-3)
    assert norms["0.1"] == pytest.approx(8**0.5), "the last group is not clipped"


def test_adams_memory_stays_with_a_parameter_from_stage_to_stage(settings: Callable[..., TrainConfig]) -> None:
    net = network()
    optimiser = Optimiser(net, settings(), CPU)
    train_on(net, optimiser, (Group(),), 3)
    train_on(net, optimiser, (Group(("0.*",), frozen=True), Group(rate=0.1)), 2)
    state = optimiser.state()
    assert {name.partition(".")[0] for name in state} == {"1"}
    assert state["1.0.weight"]["step"] == 5
    train_on(net, optimiser, (Group(),), 1)
    assert optimiser.state()["0.0.weight"]["step"] == 1, "what was frozen begins anew"
    other = Optimiser(net, settings(), CPU)
    other.regroup((Group(),))
    other.load_state(optimiser.state())
    for name, values in other.state().items():
        assert all(torch.equal(value, optimiser.state()[name][key]) for key, value in values.items())


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        ((Group(("encoder.*",), frozen=True), Group()), r"no parameter is called 'encoder\.\*'; names begin with 0, 1"),
        ((Group(("0.*",)),), r"parameter '1\.0\.weight' is in none"),
        ((Group(frozen=True),), "every parameter is frozen"),
    ],
)
def test_groups_that_cannot_be_are_one_line(
    settings: Callable[..., TrainConfig], groups: tuple[Group, ...], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        Optimiser(network(), settings(), CPU).regroup(groups)


def test_the_first_group_that_matches_has_the_parameter() -> None:
    first, last = Group(("*.weight", "0.1.*"), rate=2.0), Group()
    group_of = assign(network(), (first, last))
    assert group_of["0.0.weight"] is group_of["0.1.running_mean"] is first
    assert group_of["0.0.bias"] is group_of["1.1.running_mean"] is last
