"""Renderer `sd3`: Stable Diffusion 3 and 3.5 through diffusers, with or without a ControlNet.

The same code takes `stabilityai/stable-diffusion-3.5-large`, a local folder, or the shipped minis. Prompts that the
bank has encoded are not encoded again, and then no text encoder is loaded at all. Otherwise `prepare` encodes the
prompts of a unit, each once, and drops the text encoders before the denoiser comes to the device: the two are never
there together. The denoiser is loaded at the first image.

An image has the same bytes whatever is rendered beside it. Kernels round differently for different batch shapes, so
every call of the model has one shape: an image alone where the model keeps the processor busy, four together (the last
call filled up with copies) where a call's own cost would dominate. On a CPU those four run on one thread: elementwise
kernels split a batch between threads without regard to images, and round the ends of each part in another way. Measured
with the minis' shape (192 wide, 6 layers, 64 px, 20 steps) in seconds of one core an image: 0.35 in eights, 0.375 in
fours, 0.51 alone; more cores are used by more worker processes.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from synthgen.backends import Cost, Licence
from synthgen.errors import ModelError
from synthgen.labels import LabelSpace
from synthgen.models import Rendered, Renderer, RenderJob, TextEmbedding
from synthgen.models.conditions import Conditions, ExtraChannels
from synthgen.models.context import encode_telling
from synthgen.models.control_fit import require_fit
from synthgen.models.controlnets import ControlNet, control_of, find_controlnet, transformer_config
from synthgen.models.costs import denoiser_cost
from synthgen.models.devices import torch_threads
from synthgen.models.licences import sd3_licences
from synthgen.models.model_facts import num_t5_tokens
from synthgen.models.provenance import pinned_revision, revision_of
from synthgen.models.sd3_options import Options, fingerprint, notes, sampling_of
from synthgen.models.sd3_pipeline import add_lora, load_sd3_pipeline, sd3_index
from synthgen.models.step_cache import StepCache
from synthgen.models.text_encoders import sd3 as text_encoder
from synthgen.models.weights import resolve

__all__ = ["Options", "Sd3Renderer", "build", "cost", "fingerprint", "licences", "notes", "parts", "text_encoder_of"]

GROUP = 4  # images of one call of a small model
CACHED_GROUP = 8  # ... under the step cache, where copies cost nothing and more images leave fewer gaps
# rows (images x guidance branches) of one run of a small model's blocks under the step cache; a large one runs them one
# by one
ROWS = 4
# denoiser parameters x image tokens: below, a call costs more than its arithmetic. mini: 5e8; SD3.5-Large at 256 px:
# 2e12
SMALL = 1e10


def build(options: Options, execution: Any) -> Sd3Renderer:
    """Load the denoiser, the VAE and the ControlNet; text encoders only when a job brings no embedding."""
    return Sd3Renderer(options, execution)


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost | None:
    """All steps of an image."""
    return denoiser_cost(options, size, execution)


def text_encoder_of(options: Options) -> dict[str, Any]:
    """`{name, **options}` of the text encoder whose embeddings this renderer attends to."""
    shared = ("revision", "variant", "t5", "max_sequence_length")
    chosen = {name: getattr(options, name) for name in shared}
    fields = text_encoder.Options.model_fields
    return {
        "name": "sd3",
        "model": options.model,
        **{name: value for name, value in chosen.items() if value != fields[name].default},
    }


def parts(options: Options) -> tuple[str, ...]:
    """Of the model's folder, what is loaded here; text encoders are the embedder's matter, or come when it has another
    model."""
    return ("transformer", "vae", "scheduler")


def licences(options: Options) -> dict[str, Licence]:
    """That of the model's family."""
    return sd3_licences(options.model)


class Sd3Renderer(Renderer):
    """Renders batches;

    every sample has a generator of its own, seeded on the CPU, so noise is the same on every device.
    """

    def __init__(self, options: Options, execution: Any) -> None:
        import torch

        from synthgen.models.acceleration import quantisation
        from synthgen.models.devices import torch_device, torch_dtype

        self._torch = torch
        self._options = options
        self._execution = execution
        self._device = torch_device(execution)
        self._dtype = torch_dtype(execution, self._device)
        self._quantised = quantisation(execution, self._device)
        self._text: Any = None
        self._prepared: dict[str, TextEmbedding] = {}
        self._encode = functools.lru_cache(maxsize=64)(self._encode_prompt)
        self._place = resolve(options.model)
        self._revision = pinned_revision(options.model, options.revision)
        # what is missing is told now, not after the prompts have been encoded
        sd3_index(options.model, self._place, self._revision)
        self._sampling = sampling_of(options)
        self._length = num_t5_tokens(self._place, options.max_sequence_length)
        self._cache: StepCache | None = None
        self._is_placed = False
        self.revision = revision_of(options.model, options.revision)
        self.id = f"sd3:{options.model}" + (f"+{options.controlnet}" if options.controlnet else "")
        self.id += f"+{options.lora}" if options.lora else ""
        self._controlnet, self._conditions = self._find_controlnet()
        self._extra: ExtraChannels | None = None
        if execution.quantise != "none":
            self.id += f"+{execution.quantise}"
        cache = options.step_cache
        if cache.threshold:
            self.id += f"+step_cache({cache.threshold:g},{cache.first_steps},{cache.last_steps})"

    def _find_controlnet(self) -> tuple[ControlNet | None, Conditions | None]:
        """Refuses what does not fit before a weight is loaded."""
        options = self._options
        if not options.controlnet:
            return None, None
        net = find_controlnet(options.controlnet, options.controlnet_revision, options.controlnet_subfolder)
        control = control_of(net, options.control, options.control_palette)
        require_fit(net, control, transformer_config(self._place, self._revision, options.model), options.model)
        return net, Conditions(control, self.id, options.control_translation)

    def expect_labels(self, space: LabelSpace) -> None:
        """Raises LabelError if maps of this label space cannot be translated into the ControlNet's."""
        if self._conditions is not None:
            self._conditions.expect_labels(space)

    def knows_object(self, class_name: str) -> bool:
        """Whether the ControlNet can be shown one."""
        return self._conditions is not None and self._conditions.object_id(class_name) is not None

    @functools.cached_property
    def _pipeline(self) -> Any:
        """The denoiser, the VAE and the ControlNet in main memory; `_on_device` brings them to the device."""
        from synthgen.models.acceleration import accelerate
        from synthgen.models.devices import give_memory_back

        give_memory_back()  # the prompt bank's text encoders
        pipeline = load_sd3_pipeline(
            self._options.model,
            self._place,
            self._revision,
            self._controlnet,
            self._dtype,
            self._quantised,
            variant=self._options.variant,
            denoiser_file=self._options.denoiser_file,
        )
        if self._options.lora:
            add_lora(pipeline, self._options.lora)
        if self._controlnet is not None:
            self._extra = ExtraChannels(pipeline.controlnet)
        accelerate(pipeline, self._execution, self._device, self._dtype)
        return pipeline

    @functools.cached_property
    def _parameters(self) -> int:
        return sum(weight.numel() for weight in self._pipeline.transformer.parameters())

    def prepare(self, prompts: Sequence[str]) -> None:
        """Encode prompts that jobs will bring without an embedding, each once, with nothing else on the device."""
        from synthgen.models.devices import give_memory_back

        wanted = dict.fromkeys(prompts)
        if wanted.keys() <= self._prepared.keys():
            return
        self._leave_device()
        self._prepared = {prompt: self._prepared.get(prompt) or self._encode_prompt(prompt) for prompt in wanted}
        self._text = None
        give_memory_back()

    def render(self, jobs: Sequence[RenderJob]) -> list[Rendered]:
        """An image for each job, or `not_finite` where the model gave no finite one.

        All jobs of a call must have one size.

        Raises ModelError for a size that the model cannot make, and for a label map without a ControlNet or the other
        way round.
        """
        jobs = list(jobs)
        if not jobs:
            return []
        sizes = {(job.height_px, job.width_px) for job in jobs}
        if len(sizes) != 1:
            raise ValueError(f"jobs of one call must have one size, got {sorted(sizes)}")
        height, width = sizes.pop()
        step = self._pipeline.vae_scale_factor * self._pipeline.transformer.config.patch_size
        if height % step or width % step:
            raise ModelError(
                f"render.height_px x width_px = {height} x {width}: {self.id} makes sizes that are multiples of "
                f"{step} px"
            )
        most = step * self._most_positions()
        if max(height, width) > most:
            raise ModelError(
                f"render.height_px x width_px = {height} x {width}: {self.id} has positions for {most} px a side "
                "at the most"
            )
        small = self._parameters * (height // step) * (width // step) < SMALL
        group = self._options.group or ((CACHED_GROUP if self._options.step_cache.threshold else GROUP) if small else 1)
        self._on_device()
        rendered: list[Rendered] = []
        for start in range(0, len(jobs), group):
            part = jobs[start : start + group]
            if self._cache is not None:
                self._cache.begin(ROWS if small else 1, group, len(part))
            images = self._render(part + part[-1:] * (group - len(part)), small)[: len(part)]
            rendered += map(self._rendered, images, self._runs(len(part)))
        return rendered

    def _most_positions(self) -> int:
        """Of a side, in tokens. A ControlNet without positions of its own takes the denoiser's."""
        positions = [self._pipeline.transformer.config.pos_embed_max_size]
        if self._controlnet is not None and self._controlnet.config["use_pos_embed"]:
            positions.append(self._controlnet.config["pos_embed_max_size"])
        return int(min(positions))

    def _rendered(self, image: np.ndarray | None, denoiser_runs: int) -> Rendered:
        absent = ("not_finite", "the model's output is not finite") if image is None else ("", "")
        return Rendered(image, *absent, denoiser_runs, self._sampling.steps, self._sampling.guidance)

    def _render(self, jobs: list[RenderJob], small: bool) -> list[np.ndarray | None]:
        """One call of the pipeline."""
        height, width = jobs[0].height_px, jobs[0].width_px
        embeddings = [job.embedding or self._prepared.get(job.prompt) or self._encode(job.prompt) for job in jobs]
        negatives = [j.negative_embedding or self._prepared.get(j.negative) or self._encode(j.negative) for j in jobs]
        extra: dict[str, Any] = {}
        skip = self._sampling.skip_layers
        if skip.layers:
            extra = {
                "skip_guidance_layers": list(skip.layers),
                "skip_layer_guidance_scale": skip.scale,
                "skip_layer_guidance_start": skip.start,
                "skip_layer_guidance_stop": skip.stop,
            }
        if self._conditions is None and any(job.layout is not None for job in jobs):
            raise ModelError(
                f"{self.id} would ignore the label maps that the prompts bring; set render.renderer.controlnet"
            )
        if self._conditions is not None and self._extra is not None:
            side = self._pipeline.vae_scale_factor
            self._extra.channels = self._conditions.channels(jobs, (height // side, width // side))
            extra = {
                "control_image": self._conditions.pixels(jobs),
                "controlnet_conditioning_scale": self._options.control_scale,
                "control_guidance_start": self._options.control_range[0],
                "control_guidance_end": self._options.control_range[1],
            }
        with self._torch.inference_mode(), torch_threads(1 if small and self._device.type == "cpu" else 0):
            pictures = self._pipeline(
                prompt_embeds=self._tensor([e.tokens for e in embeddings]),
                pooled_prompt_embeds=self._tensor([e.pooled for e in embeddings]),
                negative_prompt_embeds=self._tensor([e.tokens for e in negatives]),
                negative_pooled_prompt_embeds=self._tensor([e.pooled for e in negatives]),
                height=height,
                width=width,
                num_inference_steps=self._sampling.steps,
                guidance_scale=self._sampling.guidance,
                generator=[self._torch.Generator("cpu").manual_seed(job.seed) for job in jobs],
                max_sequence_length=self._length,
                output_type="pt",
                **extra,
            ).images
        arrays = pictures.float().cpu().permute(0, 2, 3, 1).numpy()
        return [np.round(array * 255).astype(np.uint8) if np.isfinite(array).all() else None for array in arrays]

    def _runs(self, images: int) -> list[int]:
        if self._cache is not None:
            return self._cache.runs()
        steps, is_guided = len(self._pipeline.scheduler.timesteps), self._pipeline.do_classifier_free_guidance
        skipped = self._sampling.skip_layers.passes(self._sampling.steps) if is_guided else 0
        return [steps * (1 + is_guided) + skipped] * images

    def _on_device(self) -> None:
        from synthgen.models.acceleration import place

        if self._is_placed:
            return
        pipeline = self._pipeline
        # before the hooks of offloading, which then move what the cache runs
        if self._cache is None and self._options.step_cache.threshold:
            net = getattr(pipeline, "controlnet", None)
            self._cache = StepCache(self._options.step_cache, pipeline.transformer, net, pipeline.scheduler)
        place(pipeline, self._execution, self._device)
        self._is_placed = True

    def _leave_device(self) -> None:
        """Back to main memory, so that a text encoder has the device for itself.

        What is offloaded or quantised by a package stays where it is.
        """
        if (
            self._is_placed
            and self._device.type != "cpu"
            and self._execution.offload == "none"
            and self._quantised is None
        ):
            self._pipeline.to("cpu")
            self._is_placed = False

    def _encode_prompt(self, prompt: str) -> TextEmbedding:
        if self._text is None:
            options = self._options
            self._text = text_encoder.build(
                text_encoder.Options(
                    model=options.model,
                    revision=options.revision,
                    variant=options.variant,
                    t5=options.t5,
                    max_sequence_length=options.max_sequence_length,
                ),
                self._execution,
            )
        return encode_telling(self._text, prompt)

    def _tensor(self, arrays: list[np.ndarray]) -> Any:
        return self._torch.from_numpy(np.stack(arrays)).to(self._device, self._pipeline.transformer.dtype)
