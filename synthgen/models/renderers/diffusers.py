"""Renderer `diffusers`: any text-to-image pipeline that diffusers loads by itself (AutoPipelineForText2Image).

    renderer: {name: diffusers}                                    Z-Image-Turbo: Apache-2.0, not gated, 8 steps
    renderer: {name: diffusers, model: Qwen/Qwen-Image}
    renderer: {name: diffusers, model: ./my_folder, steps: 20}     a folder in diffusers' layout

How a model's makers sample it is data: synthgen/models/diffusion_models.yaml. Label maps are not for this renderer
(`sd3` takes them through a ControlNet), and it encodes each prompt itself, an image at a time, so an image has the same
bytes whatever is rendered beside it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from synthgen.backends import Cost, Licence
from synthgen.errors import ModelError, in_one_line
from synthgen.models import Rendered, Renderer, RenderJob
from synthgen.models.costs import diffusers_cost
from synthgen.models.diffusion_models import default_sampling, diffusion_model, distilled_notes, licences_of
from synthgen.models.provenance import pinned_revision, revision_of
from synthgen.models.weights import loading, resolve
from synthgen.models.whole_networks import load_network, pipeline_index


class Options(BaseModel):
    """Which model and how it samples."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = Field("Tongyi-MAI/Z-Image-Turbo", description="Hub id or local folder in diffusers' layout")
    revision: str = Field("", description="Hub revision; empty = main")
    variant: str = Field(
        "", description="of the weights' file names, as fp16; empty = plain ones, or the only variant that is there"
    )
    steps: int | None = Field(
        None, ge=1, le=1000, description="denoiser steps; null = as the model's makers advise, 28 for others"
    )
    guidance: float | None = Field(
        None, ge=0, le=30, description="as the pipeline takes it; null = as the makers advise, 4.5 for others"
    )
    guidance_argument: Literal["", "guidance_scale", "true_cfg_scale"] = Field(
        "", description="the pipeline's name for it; empty = as the list says, guidance_scale for others"
    )
    max_sequence_length: int = Field(0, ge=0, le=4096, description="tokens of a prompt; 0 = the pipeline's default")


def build(options: Options, execution: Any) -> DiffusersRenderer:
    """Load the whole pipeline into main memory."""
    return DiffusersRenderer(options, execution)


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost | None:
    """All steps of an image, if the model is listed."""
    steps, guidance, _ = sampling_of(options)
    return diffusers_cost(options.model, steps, guidance, size, execution)


def fingerprint(options: Options) -> dict[str, str]:
    """What was left to the makers."""
    if options.steps is not None and options.guidance is not None and options.guidance_argument:
        return {}
    steps, guidance, argument = sampling_of(options)
    return {"sampling": f"{steps} steps, {argument} {guidance:g}"}


def licences(options: Options) -> dict[str, Licence]:
    """That of a listed model."""
    return licences_of(options.model)


def notes(options: Options) -> list[str]:
    """What is worth knowing before a run."""
    steps, guidance, _ = sampling_of(options)
    return distilled_notes(options.model, steps, guidance)


def text_encoder_of(options: Options) -> dict[str, Any]:
    """These pipelines encode prompts themselves: a small sentence encoder compares them."""
    return {"name": "sentence"}


def sampling_of(options: Options) -> tuple[int, float, str]:
    """(steps, guidance, the pipeline's argument for it), with what the makers advise where the options are open."""
    entry, plain = diffusion_model(options.model), default_sampling()
    steps = options.steps or (entry.steps if entry is not None else plain.steps)
    guidance = options.guidance
    if guidance is None:
        guidance = entry.guidance if entry is not None else plain.guidance
    argument = options.guidance_argument or (entry.guidance_argument if entry is not None else "guidance_scale")
    return steps, guidance, argument


class DiffusersRenderer(Renderer):
    """One image a call; every sample has a generator of its own, seeded on the CPU."""

    def __init__(self, options: Options, execution: Any) -> None:
        import torch
        from diffusers import AutoPipelineForText2Image

        from synthgen.models.acceleration import accelerate_pipeline, place, quantisation
        from synthgen.models.devices import torch_device, torch_dtype

        self._torch, self._options = torch, options
        device = torch_device(execution)
        dtype = torch_dtype(execution, device)
        folder, revision = resolve(options.model), pinned_revision(options.model, options.revision)
        index = pipeline_index(options.model, folder, revision)
        quantised = quantisation(execution, device)
        parts = {}
        for name, kind in _networks(index):
            more = {"quantization_config": quantised} if quantised is not None and name in _DENOISERS else {}
            parts[name] = load_network(
                kind, options.model, folder, name, dtype, revision, variant=options.variant, **more
            )
        with loading(options.model):
            pipeline = AutoPipelineForText2Image.from_pretrained(folder, **parts, dtype=dtype, **revision)
        pipeline.set_progress_bar_config(disable=True)
        self._pipeline: Any = pipeline
        self._steps, self._guidance, argument = sampling_of(options)
        self._accepted = inspect.signature(pipeline.__call__).parameters
        if argument not in self._accepted:
            raise ModelError(
                f"render.renderer.guidance_argument {argument!r}: {type(pipeline).__name__} does not take it; it takes "
                f"{', '.join(name for name in self._accepted if 'guidance' in name or 'cfg' in name) or 'none'}"
            )
        self._argument = argument
        denoiser = next(getattr(pipeline, name) for name in _DENOISERS if getattr(pipeline, name, None) is not None)
        denoiser.register_forward_pre_hook(self._count, with_kwargs=True)
        self._runs = 0
        accelerate_pipeline(pipeline, denoiser, execution, device, dtype)
        place(pipeline, execution, device)
        self.id = f"diffusers:{options.model}" + (f"+{execution.quantise}" if execution.quantise != "none" else "")
        self.revision = revision_of(options.model, options.revision)

    def render(self, jobs: Sequence[RenderJob]) -> list[Rendered]:
        """An image for each job, or `not_finite` where the model gave no finite one.

        Raises ModelError for a size that the model cannot make, for a label map, and for a negative prompt that the
        pipeline does not take.
        """
        return [self._render(job) for job in jobs]

    def _render(self, job: RenderJob) -> Rendered:
        if job.layout is not None:
            raise ModelError(
                f"{self.id} would ignore the label maps that the prompts bring; render.renderer.name=sd3 takes them, "
                "through a ControlNet"
            )
        asked: dict[str, Any] = {
            "prompt": job.prompt,
            "height": job.height_px,
            "width": job.width_px,
            "num_inference_steps": self._steps,
            "generator": self._torch.Generator("cpu").manual_seed(job.seed),
            "output_type": "np",
            self._argument: self._guidance,
        }
        # no negative prompt is another thing than an empty one (SDXL takes zeros); a pipeline of true_cfg_scale guides
        # only where there is one, and its makers take a blank
        negative = job.negative or (" " if self._argument == "true_cfg_scale" else "")
        if negative and "negative_prompt" not in self._accepted:
            raise ModelError(f"render.negative: {type(self._pipeline).__name__} takes no negative prompt; leave it out")
        if negative:
            asked["negative_prompt"] = negative
        if self._options.max_sequence_length:
            asked["max_sequence_length"] = self._options.max_sequence_length
        self._runs = 0
        try:
            with self._torch.inference_mode():
                image = np.asarray(self._pipeline(**asked).images[0], np.float32)
        except ValueError as error:  # how pipelines refuse an argument, a size above all
            raise ModelError(f"{self.id}: {in_one_line(error, 200)}") from error
        if image.shape[:2] != (job.height_px, job.width_px):
            raise ModelError(
                f"render.height_px x width_px = {job.height_px} x {job.width_px}: {self.id} makes {image.shape[0]} x "
                f"{image.shape[1]} of it; take a size that it makes"
            )
        pixels = np.round(image * 255).astype(np.uint8) if np.isfinite(image).all() else None
        absent = ("not_finite", "the model's output is not finite") if pixels is None else ("", "")
        return Rendered(pixels, *absent, self._runs, self._steps, self._guidance)

    def _count(self, module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Rows of a call: guidance branches are rows of one call, or calls of their own."""
        given = inputs[0] if inputs else next(named[name] for name in ("hidden_states", "sample", "x") if name in named)
        self._runs += len(given)


_DENOISERS = ("transformer", "unet")


def _networks(index: dict[str, Any]) -> list[tuple[str, Any]]:
    """(part, class) of every network that a model_index.json names."""
    import diffusers
    import torch
    import transformers

    libraries: dict[str, Any] = {"diffusers": diffusers, "transformers": transformers}
    found = []
    for name, value in index.items():
        if isinstance(value, list) and len(value) == 2 and value[0] in libraries:
            kind = getattr(libraries[value[0]], str(value[1]), None)
            if isinstance(kind, type) and issubclass(kind, torch.nn.Module):
                found.append((name, kind))
    return found
