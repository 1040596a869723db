"""SD3's training objective over any networks of its family: denoiser, two CLIP text encoders."""

from __future__ import annotations

from typing import Any

import torch


def tokenize(tokenizer: Any, captions: list[str]) -> torch.Tensor:
    """(N, T) int64 ids, padded and cut to the tokenizer's length."""
    ids: torch.Tensor = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return ids


def noised(data: torch.Tensor, uniform: float, shift: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x = (1 - sigma) data + sigma noise, sigma (N,), and the velocity noise - data, for latents (N, C, h, w).

    sigma is logit-normal(0, 1), uniform in the share `uniform` of the samples, and then moved as the scheduler of SD3
    moves it: shift sigma / (1 + (shift - 1) sigma). Draws from torch's global generator of the device.
    """
    number, device = len(data), data.device
    sigma = torch.sigmoid(torch.randn(number, device=device))
    sigma = torch.where(torch.rand(number, device=device) < uniform, torch.rand(number, device=device), sigma)
    sigma = shift * sigma / (1 + (shift - 1) * sigma)
    noise = torch.randn_like(data)
    share = sigma[:, None, None, None]
    return (1 - share) * data + share * noise, sigma, noise - data


class Flow(torch.nn.Module):
    """SD3's objective: predict noise - data at x = (1 - sigma) data + sigma noise (Esser et al. 2024, rectified flow).

    sigma is logit-normal in 85 % and uniform in 15 % of the samples; the caption is dropped (empty prompt) in 10 %.
    """

    empty: torch.Tensor

    def __init__(
        self,
        tokenizer: Any,
        text_encoders: tuple[torch.nn.Module, torch.nn.Module],
        transformer: torch.nn.Module,
    ) -> None:
        """`tokenizer` serves both text encoders (CLIPTextModelWithProjection); `transformer` is an
        SD3Transformer2DModel.
        """
        super().__init__()
        self.tokenizer = tokenizer
        self.text_encoder, self.text_encoder_2 = text_encoders
        self.transformer = transformer
        self.register_buffer("empty", tokenize(self.tokenizer, [""])[0], persistent=False)

    def encode_text(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, T) ids -> (N, T, D) states and (N, D) pooled of both encoders side by side, as
        StableDiffusion3Pipeline.encode_prompt builds them without T5.
        """
        first = self.text_encoder(tokens, output_hidden_states=True)
        second = self.text_encoder_2(tokens, output_hidden_states=True)
        states = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return states, torch.cat([first.text_embeds, second.text_embeds], dim=-1)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """`batch`: latents (N, C, h, w) and tokens (N, T). Gives `loss`."""
        device = self.empty.device
        data = batch["latents"].to(device).float()
        tokens = batch["tokens"].to(device).long()
        number = len(data)
        tokens = torch.where(torch.rand(number, 1, device=device) < 0.1, self.empty[None], tokens)
        mixed, sigma, target = noised(data, uniform=0.15)
        states, pooled = self.encode_text(tokens)
        predicted = self.transformer(
            hidden_states=mixed,
            encoder_hidden_states=states,
            pooled_projections=pooled,
            timestep=sigma * 1000,
            return_dict=False,
        )[0]
        return {"loss": (predicted.float() - target).square().mean()}
