"""Parameter groups and learning rate schedules of AdamW.

Which parameters learn, and how fast, may change from step to step (stages). What AdamW has gathered of a parameter
stays with it as long as it learns.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import nn

from segtrain.config import OptimiserSettings
from segtrain.errors import ConfigError


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Parameters that are treated alike: those whose name matches a pattern (`encoder.*`) and no earlier group's.

    `frozen` is exact: no gradient, no weight decay, and batch norm keeps its statistics and uses them.
    """

    patterns: tuple[str, ...] = ("*",)
    rate: float = 1.0  # factor on the learning rate of the schedule
    clip: float | None = None  # largest norm of the gradient, of all groups with the same number together; None = any
    weight_decay: float | None = None  # None = that of the settings
    frozen: bool = False


class Optimiser:
    """AdamW over the groups of a network. Call `regroup` before the first step, and `step` after each backward pass."""

    def __init__(self, network: nn.Module, config: OptimiserSettings, device: torch.device) -> None:
        self._network, self._config, self._fused = network, config, device.type != "mps"
        self._groups: tuple[Group, ...] | None = None
        self._members: list[tuple[Group, list[str]]] = []
        self._adam: torch.optim.AdamW | None = None

    def regroup(self, groups: Sequence[Group]) -> None:
        """Let the groups apply from now on; nothing is done if they are those of the last call.

        Raises ConfigError if a pattern matches nothing, a parameter is in no group, or nothing is left to learn.
        """
        if tuple(groups) == self._groups:
            return
        state = self.state()
        self._groups = tuple(groups)
        group_of = assign(self._network, self._groups)
        parameters = dict(self._network.named_parameters())
        self._members = []
        for group in self._groups:
            names = [name for name in parameters if group_of[name] is group]
            for name in names:
                parameters[name].requires_grad_(not group.frozen)
                parameters[name].grad = None
            if names and not group.frozen:
                self._members.append((group, names))
        if not self._members:
            raise ConfigError("groups: every parameter is frozen, so there is nothing to learn")
        self._adam = torch.optim.AdamW(
            [
                {
                    "params": [parameters[name] for name in names],
                    "weight_decay": self._config.weight_decay if group.weight_decay is None else group.weight_decay,
                }
                for group, names in self._members
            ],
            lr=self._config.learning_rate,
            fused=self._fused,
        )
        self.load_state(state)
        self.hold_frozen()

    def hold_frozen(self) -> None:
        """Set the network to train, and what is frozen to infer: dropout and batch norm as well."""
        assert self._groups is not None, "regroup comes first"
        self._network.train()
        group_of = assign(self._network, self._groups)
        for name, module in self._network.named_modules():
            prefix = f"{name}." if name else ""
            inside = [key for key, _ in (*module.named_parameters(), *module.named_buffers())]
            if inside:
                frozen = all(group_of[prefix + key].frozen for key in inside)
            else:  # a dropout, an activation
                frozen = any(g.frozen for g in [g for g in self._groups if _matches(name, g.patterns)][:1])
            if frozen:
                module.eval()

    def step(self, learning_rate: float) -> None:
        """Clip the gradients, take a step, clear the gradients."""
        assert self._adam is not None, "regroup comes first"
        clipped: defaultdict[float, list[nn.Parameter]] = defaultdict(list)
        for (group, _), adam_group in zip(self._members, self._adam.param_groups, strict=True):
            adam_group["lr"] = learning_rate * group.rate
            if group.clip is not None:
                clipped[group.clip] += adam_group["params"]
        for largest, parameters in clipped.items():
            nn.utils.clip_grad_norm_(parameters, largest)
        self._adam.step()
        self._adam.zero_grad()

    def state(self) -> dict[str, dict[str, torch.Tensor]]:
        """What AdamW keeps of each parameter that learns, by parameter name."""
        if self._adam is None:
            return {}
        names = [name for _, names in self._members for name in names]
        parameters = [parameter for group in self._adam.param_groups for parameter in group["params"]]
        return {
            name: dict(self._adam.state[parameter])
            for name, parameter in zip(names, parameters, strict=True)
            if parameter in self._adam.state
        }

    def load_state(self, state: dict[str, dict[str, torch.Tensor]]) -> None:
        """Take over what `state` gave, for the parameters that learn now."""
        assert self._adam is not None, "regroup comes first"
        for (_, names), group in zip(self._members, self._adam.param_groups, strict=True):
            for name, parameter in zip(names, group["params"], strict=True):
                if name in state:
                    # The fused kernel counts steps on the device, the plain one on the CPU.
                    self._adam.state[parameter] = {
                        key: value.to("cpu" if key == "step" and not self._fused else parameter.device)
                        for key, value in state[name].items()
                    }


def assign(network: nn.Module, groups: Sequence[Group]) -> dict[str, Group]:
    """The group of every parameter and every buffer of the network, by name: the first that matches.

    A buffer that no group matches has a group that learns. Raises ConfigError as `Optimiser.regroup` does.
    """
    parameters = dict(network.named_parameters())
    names = [*parameters, *(name for name, _ in network.named_buffers())]
    for group in groups:
        for pattern in group.patterns:
            if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
                raise ConfigError(
                    f"groups: no parameter is called {pattern!r}; names begin with "
                    f"{', '.join(sorted({name.partition('.')[0] for name in names}))}"
                )
    group_of = {}
    for name in names:
        first = next((group for group in groups if _matches(name, group.patterns)), None)
        if first is None and name in parameters:
            raise ConfigError(f"groups: parameter {name!r} is in none: add a last group for all others")
        group_of[name] = first or Group()
    return group_of


def learning_rate(config: OptimiserSettings, step: int) -> float:
    """Of optimiser step `step`, which counts from 0."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * (
        (1 - done) ** 0.9 if config.schedule == "poly" else (1 + math.cos(math.pi * done)) / 2
    )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
