"""Samples from latents, as StableDiffusion3ControlNetPipeline makes them: for a look at a model while it is trained."""

from __future__ import annotations

from typing import Any

import torch


@torch.no_grad()
def sample(
    denoiser: Any,
    controlnet: Any,
    scheduler: Any,
    control: torch.Tensor | None,
    states: tuple[torch.Tensor, torch.Tensor],
    pooled: tuple[torch.Tensor, torch.Tensor],
    latents: torch.Tensor,
    steps: int,
    guidance: float,
) -> torch.Tensor:
    """Latents (N, C, h, w) float32 after `steps` of Euler from the noise `latents`.

    `states` (N, T, D) and `pooled` (N, P) come as (with caption, without), `control` (N, C', h, w) is what the
    ControlNet is fed, or None without one. All on the denoiser's device.
    """
    dtype, guided = denoiser.dtype, guidance > 1
    scheduler.set_timesteps(steps, device=latents.device)
    text = torch.cat([states[1], states[0]]) if guided else states[0]
    vector = torch.cat([pooled[1], pooled[0]]) if guided else pooled[0]
    condition = None if control is None else torch.cat([control] * 2) if guided else control
    for timestep in scheduler.timesteps:
        mixed = torch.cat([latents] * 2) if guided else latents
        at = timestep.expand(len(mixed))
        residuals = None
        if controlnet is not None:
            fed = vector * 0 if controlnet.config.force_zeros_for_pooled_projection else vector
            residuals = controlnet(
                hidden_states=mixed.to(controlnet.dtype),
                controlnet_cond=condition.to(controlnet.dtype) if condition is not None else None,
                conditioning_scale=1.0,
                encoder_hidden_states=text.to(controlnet.dtype),
                pooled_projections=fed.to(controlnet.dtype),
                timestep=at,
                return_dict=False,
            )[0]
            residuals = [part.to(dtype) for part in residuals]
        velocity = denoiser(
            hidden_states=mixed.to(dtype),
            encoder_hidden_states=text.to(dtype),
            pooled_projections=vector.to(dtype),
            timestep=at,
            block_controlnet_hidden_states=residuals,
            return_dict=False,
        )[0].float()
        if guided:
            without, caption = velocity.chunk(2)
            velocity = without + guidance * (caption - without)
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
    return latents


@torch.no_grad()
def decoded(vae: Any, latents: torch.Tensor) -> Any:
    """Latents (N, C, h, w) as a denoiser has them -> (N, H, W, 3) uint8."""
    raw = latents.to(vae.dtype) / vae.config.scaling_factor + vae.config.shift_factor
    pixels = vae.decode(raw).sample.float().clamp(-1, 1).cpu()
    return ((pixels + 1) * 127.5).round().permute(0, 2, 3, 1).numpy().astype("uint8")
