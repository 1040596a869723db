"""The adversary: a discriminator of patches says of the denoiser's middle features which domain they are of.

Least squares: source 0, target 1 (AdaptSegNet, Tsai et al., CVPR 2018, with the loss of LSGAN). It learns

    L_D = (|D(h_source, t)|^2 + |D(h_target, t) - 1|^2) / 2          mixed features count as source

with an Adam of its own, and the denoiser learns L_adv = |D(h_target, t)|^2: to make target features look like source
ones. Both see the same times t in every domain, or the discriminator would learn the level of the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from segtrain.errors import ConfigError
from segtrain.methods.iccld.config import AdversarySettings, Config

SOURCE, TARGET = 0.0, 1.0


class Discriminator(nn.Module):
    """Convolutions that halve, then one number a patch."""

    def __init__(self, width_in: int, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        now = width_in + 2  # two waves of the time
        for number in range(layers):
            then = width * 2**number
            self.layers.append(nn.Conv2d(now, then, 4, stride=2, padding=1))
            now = then
        self.last = nn.Conv2d(now, 1, 1)

    def forward(self, features: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """(B, D, h, w) middle features at times (B,) to (B, 1, h', w')."""
        waves = torch.stack([t.sin(), t.cos()], dim=1)[..., None, None].expand(-1, -1, *features.shape[-2:])
        hidden = torch.cat([features.float(), waves], dim=1)
        for layer in self.layers:
            hidden = functional.leaky_relu(layer(hidden), 0.2)
        judged: torch.Tensor = self.last(hidden)
        return judged


def require_room(side: int, config: Config) -> None:
    """Raise ConfigError if middle features of `side` x `side` cells have not a patch left after all halvings."""
    most = side.bit_length() - 1
    if config.discriminator_layers > most:
        way = f"take {most} at the most, or raise --crop" if most else "raise --crop, or take --no-adversary"
        raise ConfigError(
            f"discriminator_layers {config.discriminator_layers}: of a crop of {config.crop_px} px the denoiser's "
            f"middle features are {side} x {side}, halved so often there is nothing left: {way}"
        )


class Adversary:
    """The discriminator and its optimiser. Nothing of it is in the model; all of it is in the checkpoint."""

    def __init__(self, width_in: int, settings: AdversarySettings, seed: int, device: torch.device) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = Discriminator(width_in, settings.discriminator_width, settings.discriminator_layers)
        self.network.to(device)
        self._optimiser = torch.optim.Adam(
            self.network.parameters(), lr=settings.discriminator_learning_rate, betas=(0.9, 0.99)
        )

    def fooling(self, target: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """L_adv of target features, a scalar. Its gradient reaches the features, not the discriminator."""
        self.network.requires_grad_(False)
        loss = (self.network(target, t) - SOURCE).square().mean()
        self.network.requires_grad_(True)
        return loss

    def learn(
        self,
        source: Sequence[tuple[torch.Tensor, torch.Tensor]],
        target: tuple[torch.Tensor, torch.Tensor],
        rate: float,
    ) -> torch.Tensor:
        """One step on detached features with their times; returns L_D. `rate` is the share of the learning rate that
        the schedule has left.
        """
        at_source = torch.stack([(self.network(h.detach(), t) - SOURCE).square().mean() for h, t in source]).mean()
        at_target = (self.network(target[0].detach(), target[1]) - TARGET).square().mean()
        loss = (at_source + at_target) / 2
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        group: Any = self._optimiser.param_groups[0]
        whole = group["lr"]
        group["lr"] = whole * rate
        self._optimiser.step()
        group["lr"] = whole
        return loss.detach()

    def state(self) -> dict[str, torch.Tensor]:
        """`network.*` and `adam.<parameter>.<what>`."""
        tensors = {f"network.{name}": tensor.clone() for name, tensor in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            for what, value in self._optimiser.state.get(parameter, {}).items():
                tensors[f"adam.{name}.{what}"] = torch.as_tensor(value).clone()
        return tensors

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        self.network.load_state_dict(
            {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
        )
        for name, parameter in self.network.named_parameters():
            prefix = f"adam.{name}."
            known = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if known:
                self._optimiser.state[parameter] = {
                    what: value.clone() if what == "step" else value.to(parameter.device).clone()
                    for what, value in known.items()
                }
