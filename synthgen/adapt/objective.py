"""The loss of an adaptation: SD3's, over a frozen denoiser and what is trained in it or beside it."""

from __future__ import annotations

from typing import Any

import torch

from synthgen.adapt_settings import Training
from synthgen.models.control import pooled_for
from synthgen.training.flow import noised


class Objective(torch.nn.Module):
    """Rectified flow (Esser et al. 2024) over encoded crops.

    Weighted by sigma^2 it is the squared error of the picture that the velocity stands for, as diffusers' training
    script has it (`precondition_outputs`); unweighted, that of the velocity.
    """

    def __init__(self, denoiser: Any, controlnet: Any, settings: Training, shift: float) -> None:
        """`controlnet` is None where the denoiser's own low-rank change is trained; `shift` is the scheduler's."""
        super().__init__()
        self.denoiser, self.controlnet = denoiser, controlnet
        self._settings, self._shift = settings, shift

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """`batch`: latents (N, C, h, w), control (N, C', h, w), states (N, T, D), pooled (N, P), any float dtype."""
        device = next(self.denoiser.parameters()).device
        data, states, pooled = (batch[name].to(device).float() for name in ("latents", "states", "pooled"))
        mixed, sigma, target = noised(data, self._settings.uniform, self._shift)
        residuals = None
        if self.controlnet is not None:
            residuals = self.controlnet(
                hidden_states=mixed,
                controlnet_cond=batch["control"].to(device).float(),
                conditioning_scale=1.0,
                encoder_hidden_states=states,
                pooled_projections=pooled_for(self.controlnet.config, pooled),
                timestep=sigma * 1000,
                return_dict=False,
            )[0]
        dtype = self.denoiser.dtype
        predicted = self.denoiser(
            hidden_states=mixed.to(dtype),
            encoder_hidden_states=states.to(dtype),
            pooled_projections=pooled.to(dtype),
            timestep=sigma * 1000,
            block_controlnet_hidden_states=None if residuals is None else [part.to(dtype) for part in residuals],
            return_dict=False,
        )[0]
        error = (predicted.float() - target).square().mean(dim=(1, 2, 3))
        if self._settings.weighting == "sigma":
            return {"loss": (sigma.square() * error).mean(), "velocity": error.mean().detach()}
        return {"loss": error.mean()}
