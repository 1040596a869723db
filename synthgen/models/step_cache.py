"""Step cache for SD3 and SD3.5, with and without a ControlNet:

skips the denoiser's blocks where its input has hardly moved since they last ran.

Provenance. The idea is TeaCache's (Liu et al. 2024, arXiv 2411.19108): neighbouring steps give nearly the same
residual, and the input of the first block, modulated by the timestep, tells cheaply how near. First-block cache
(ParaAttention) asks the first block's output instead. Ours follows TeaCache without its polynomial, which has to be
fitted to each model; the threshold is on the plain relative change.

    m_t = norm1 of the first block (tokens h_t, timestep and pooled text)             what the first block attends to
    a_t = a_(t-1) + mean|m_t - m_(t-1)| / mean|m_(t-1)|                               accumulated since the blocks
    last ran
    a_t <  threshold:  blocks(h_t) := h_t + r                                         r is kept from the last run
    a_t >= threshold:  r := blocks(h_t) - h_t, a_t := 0                               the blocks run

Decided for every sample and for each of its two guidance branches alone, by numbers of that row alone. The rows that
need it are run in calls of a fixed number of rows, filled up with copies, since kernels round differently for different
batch shapes: an image has the same bytes whatever is rendered beside it.

The ControlNet. Its residuals are added between the blocks, so they are part of r: a row that reuses r keeps its control
at full strength, and the ControlNet itself is not run for it. That is justified as for the blocks: the ControlNet sees
the same latents and timestep as they do, its condition and scale never change over the steps, and so it moves when m_t
moves. A cache that looked behind the first ControlNet residual would have to run the ControlNet in each step to decide.

The first and last steps always run: early steps lay out the image, the last ones have no later step that could mend
them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class StepCacheOptions(BaseModel):
    """It changes pixels, so it belongs to the renderer and to the fingerprint of the run."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    threshold: float = Field(
        0.0, ge=0, description="reuse the blocks' residual below this accumulated relative change; 0 = off [ours]"
    )
    first_steps: int = Field(3, ge=1, description="these steps at the beginning always run [ours]")
    last_steps: int = Field(1, ge=0, description="... and these at the end [ours]")


@dataclasses.dataclass(frozen=True, slots=True)
class _Postponed:
    """A call of the ControlNet that waits until it is known which rows need it."""

    inputs: dict[str, Any]


class StepCache:
    """Stands in place of the `forward` of a transformer, and of its ControlNet, from now on;

    `begin` starts a new batch of images.
    """

    def __init__(self, options: StepCacheOptions, transformer: Any, controlnet: Any, scheduler: Any) -> None:
        self._options = options
        self._model = transformer
        self._scheduler = scheduler
        self._control = controlnet.forward if controlnet is not None else None
        transformer.forward = self._denoise
        if controlnet is not None:
            controlnet.forward = self._postpone
        self.begin(1, 1, 1)

    def begin(self, rows_per_call: int, num_images: int, num_wanted: int) -> None:
        """Forget everything: the next call is the first step of other images.

        The blocks will run with this fixed number of rows. Of `num_images` the first `num_wanted` matter; the others
        only fill up the batch, and the blocks never run for them.
        """
        self._rows_per_call, self._num_images, self._num_wanted = rows_per_call, num_images, num_wanted
        self._step = 0
        self._before: Any = None  # m_(t-1)
        self._moved: Any = None  # a_t, (rows,) float32
        self._residual: Any = None  # r, (rows, tokens, width)
        self._runs: list[int] = []

    def runs(self) -> list[int]:
        """How often the blocks ran for each wanted image since `begin`, over its guidance branches together."""
        return [sum(self._runs[image :: self._num_images]) for image in range(self._num_wanted)]

    def _postpone(self, **inputs: Any) -> tuple[_Postponed]:
        return (_Postponed(inputs),)

    def _denoise(
        self,
        hidden_states: Any,
        encoder_hidden_states: Any,
        pooled_projections: Any,
        timestep: Any,
        block_controlnet_hidden_states: _Postponed | None = None,
        joint_attention_kwargs: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """As SD3Transformer2DModel.forward: (rows, C, h, w) latents in, the velocity out."""
        import torch
        from diffusers.models.modeling_outputs import Transformer2DModelOutput

        model = self._model
        tokens = model.pos_embed(hidden_states).contiguous()
        embedded = model.time_text_embed(timestep, pooled_projections)
        needed = self._decide(model.transformer_blocks[0].norm1(tokens, emb=embedded)[0])
        states = tokens + self._residual if self._residual is not None else tokens.clone()
        if self._residual is None:
            self._residual = tokens.new_zeros(tokens.shape)
        for start in range(0, len(needed), self._rows_per_call):
            rows = needed[start : start + self._rows_per_call]
            padded = rows + rows[-1:] * (self._rows_per_call - len(rows))
            at = torch.tensor(padded, device=tokens.device)
            control = block_controlnet_hidden_states and self._controlled(block_controlnet_hidden_states, at)
            out = self._blocks(tokens[at], model.context_embedder(encoder_hidden_states[at]), embedded[at], control)[
                : len(rows)
            ]
            states[at[: len(rows)]] = out
            self._residual[at[: len(rows)]] = out - tokens[at[: len(rows)]]
        velocity = self._image(model.proj_out(model.norm_out(states, embedded)), hidden_states.shape)
        self._step += 1
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)

    def _decide(self, now: Any) -> list[int]:
        """The rows whose blocks must run in this step."""
        before, self._before = self._before, now
        last = len(self._scheduler.timesteps) - self._options.last_steps
        if before is None:
            self._moved, self._runs = now.new_zeros(len(now)).float(), [0] * len(now)
        else:
            change = (now.float() - before.float()).abs().flatten(1).mean(1) / before.float().abs().flatten(1).mean(1)
            self._moved = self._moved + change
        if self._step < self._options.first_steps or self._step >= last:
            needed = list(range(len(now)))
        else:
            # what is not a number runs too
            needed = (~(self._moved < self._options.threshold)).nonzero().flatten().tolist()
        needed = [row for row in needed if row % self._num_images < self._num_wanted]
        self._moved[needed] = 0.0
        for row in needed:
            self._runs[row] += 1
        return needed

    def _controlled(self, postponed: _Postponed, at: Any) -> Any:
        """The ControlNet's residuals for these rows."""
        import torch

        inputs = {
            name: value[at] if isinstance(value, torch.Tensor) and value.ndim else value
            for name, value in postponed.inputs.items()
        }
        return self._control(**inputs | {"return_dict": False})[0]  # type: ignore[misc]

    def _blocks(self, states: Any, text: Any, embedded: Any, control: Any) -> Any:
        blocks = self._model.transformer_blocks
        for number, block in enumerate(blocks):
            text, states = block(hidden_states=states, encoder_hidden_states=text, temb=embedded)
            if control and not block.context_pre_only:
                states = states + control[int(number / (len(blocks) / len(control)))]  # as diffusers shares them out
        return states

    def _image(self, tokens: Any, shape: Any) -> Any:
        """(rows, h w / p^2, p p C) -> (rows, C, h, w)."""
        side, channels = self._model.config.patch_size, self._model.out_channels
        rows, height, width = shape[0], shape[2] // side, shape[3] // side
        patches = tokens.reshape(rows, height, width, side, side, channels)
        return patches.permute(0, 5, 1, 3, 2, 4).reshape(rows, channels, shape[2], shape[3])
