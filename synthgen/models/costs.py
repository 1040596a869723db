"""What models of the known families cost, from the sizes of synthgen/models/sizes.py: one function a family, for the
`cost` of the backend files.

Operations are multiplications and additions. Weights stay in float32 where the backend computes in it; the denoisers
and text encoders follow `execution.dtype`, where auto means bfloat16 for what is too large for a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthgen.backends import Cost
from synthgen.models.diffusion_models import diffusion_model
from synthgen.models.sd3_options import sampling_of
from synthgen.models.sizes import (
    GB,
    TEXT_TOKENS,
    Denoiser,
    Encoder,
    clip_of,
    controlnet_of,
    denoiser_of,
    dino_of,
    dual_encoder_of,
    sam_of,
    sam_transformers_of,
)
from synthgen.models.weights import HUB_PREFIX

SMALL = 100e6  # parameters: what is smaller needs no GPU
WORK_GB = 2.5  # activations for one megapixel with guidance [guess]
_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
_QUANTISED = {"none": 1.0, "bnb-nf4": 0.28}  # of 16 bits; the others store 8


def denoiser_cost(options: Any, size: tuple[int, int], execution: Any) -> Cost | None:
    """Of an SD3-type renderer for one image: all steps, twice with guidance, with its ControlNet if it has one."""
    denoiser = denoiser_of(options.model)
    controlnet = controlnet_of(options.controlnet) if options.controlnet else Encoder(0.0, 0.0, 0.0)
    if denoiser is None or controlnet is None:
        return None
    forwards = sampling_of(options).passes
    tokens = text_tokens(denoiser, options)
    height_px, width_px = size
    operations = denoiser.operations(height_px, width_px, tokens)
    operations += controlnet.parameters * (height_px // denoiser.token_px) * (width_px // denoiser.token_px)
    number = bytes_of_a_weight(execution, denoiser.transformer)
    weights = denoiser.transformer * number * _QUANTISED.get(execution.quantise, 0.5) / GB
    parts = (weights, denoiser.vae * number / GB, controlnet.parameters * number / GB)
    memory_gb = {"none": sum(parts), "model": max(parts), "sequential": weights / denoiser.layers}[execution.offload]
    downloads = {options.model: denoiser.download_gb, options.controlnet: controlnet.download_gb}
    return Cost(
        denoiser.transformer,
        forwards * operations,
        memory_gb + WORK_GB * height_px * width_px / 2**20,
        downloads_gb=from_the_hub(downloads),
    )


def text_encoders_cost(options: Any, execution: Any) -> Cost | None:
    """Of an SD3-type model's text encoders for one prompt; the embedding is kept in their own dtype."""
    denoiser = denoiser_of(options.model)
    if denoiser is None:
        return None
    tokens = text_tokens(denoiser, options)
    return Cost(
        denoiser.texts,
        2 * denoiser.texts * tokens,
        bytes_of_a_weight(execution, denoiser.texts) * denoiser.texts / GB,
        item_bytes=bytes_of_a_weight(execution, denoiser.texts) * tokens * denoiser.text_width,
        downloads_gb=from_the_hub({options.model: denoiser.download_gb}),
    )


def attention_cost(options: Any, size: tuple[int, int], execution: Any) -> Cost | None:
    """Of one pass of an SD3-type denoiser over an image, and of its prompt's encoding."""
    denoiser, texts = denoiser_of(options.model), text_encoders_cost(options, execution)
    if denoiser is None or texts is None or texts.operations is None:
        return None
    number = bytes_of_a_weight(execution, denoiser.transformer)
    return Cost(
        denoiser.transformer,
        denoiser.operations(*size, text_tokens(denoiser, options)) + texts.operations,
        denoiser.transformer * number / GB + texts.memory_gb + WORK_GB * size[0] * size[1] / 2**20,
        downloads_gb=texts.downloads_gb,
    )


def diffusers_cost(model: str, steps: int, guidance: float, size: tuple[int, int], execution: Any) -> Cost | None:
    """Of any listed text-to-image pipeline for one image, its prompt's encoding counted as the text encoder's weights
    for each of 512 tokens. A second pass where it is guided."""
    entry, sd3 = diffusion_model(model), denoiser_of(model)
    if entry is None:
        return None
    parameters = entry.parameters or (sd3.transformer if sd3 else 0.0)
    texts = entry.text_parameters or (sd3.texts if sd3 else 0.0)
    tokens = (size[0] // 16) * (size[1] // 16) + 512
    if entry.operations is not None:
        forward = entry.operations * size[0] * size[1] / 2**20
    else:
        layers, width = (entry.layers or 0, entry.width or 0) if sd3 is None else (sd3.layers, sd3.width)
        forward = 2 * parameters * tokens + 4 * layers * width * tokens**2
    unguided = entry.guidance if entry.distilled else 1.0
    is_guided = guidance > unguided and not entry.guidance_is_embedded
    number = bytes_of_a_weight(execution, parameters)
    weights = parameters * number * _QUANTISED.get(execution.quantise, 0.5) / GB
    parts = (weights, texts * number / GB)
    memory_gb = {"none": sum(parts), "model": max(parts), "sequential": weights / max(1, entry.layers or 20)}
    return Cost(
        parameters,
        steps * (2 if is_guided else 1) * forward + 2 * texts * 512,
        memory_gb[execution.offload] + WORK_GB * size[0] * size[1] / 2**20,
        downloads_gb=from_the_hub({model: entry.download_gb or (sd3.download_gb if sd3 else 0.0)}),
    )


def dino_cost(model: str, longest_side_px: int) -> Cost | None:
    """Of a DINOv2 or DINOv3 for one square image, at most."""
    return _encoder_cost(model, dino_of(model, longest_side_px))


def dual_encoder_cost(model: str) -> Cost | None:
    """Of the image tower of a SigLIP or CLIP in transformers' layout."""
    return _encoder_cost(model, dual_encoder_of(model))


def clip_cost(model: str) -> Cost | None:
    """Of CLIP's image tower for one image."""
    return _encoder_cost(model, clip_of(model))


def clip_text_cost(model: str) -> Cost | None:
    """Of CLIP's text tower for one prompt; at most, since the image tower's weights are counted as well."""
    encoder = clip_of(model)
    cost = _encoder_cost(model, encoder)
    if cost is None or encoder is None:
        return None
    return Cost(cost.parameters, 2 * encoder.parameters * TEXT_TOKENS, cost.memory_gb, 0.0, cost.downloads_gb)


def sam_cost(model: str, kind: str) -> Cost | None:
    """Of SAM's image encoder for one image; its mask decoder costs little beside it."""
    return _encoder_cost(model, sam_of(model, kind))


def sam_transformers_cost(model: str) -> Cost | None:
    """Of the image encoder of a SAM or SAM 2 in transformers' layout, for one image."""
    return _encoder_cost(model, sam_transformers_of(model))


def text_tokens(denoiser: Denoiser, options: Any) -> int:
    """Tokens of a prompt that the denoiser attends to: CLIP's, and T5's if there is a T5 and it is not left out."""
    if not denoiser.t5 or not options.t5:
        return TEXT_TOKENS
    return TEXT_TOKENS + (int(options.max_sequence_length) if options.max_sequence_length >= 0 else 256)


def bytes_of_a_weight(execution: Any, parameters: float) -> float:
    """Of a network that follows `execution.dtype`."""
    if execution.dtype == "auto":
        return _BYTES["bfloat16" if parameters > SMALL else "float32"]
    return _BYTES[execution.dtype]


def from_the_hub(downloads: Mapping[str, float]) -> dict[str, float]:
    """Hub id -> GB, without what is local."""
    return {model.removeprefix(HUB_PREFIX): size_gb for model, size_gb in downloads.items() if size_gb}


def _encoder_cost(model: str, encoder: Encoder | None) -> Cost | None:
    if encoder is None:
        return None
    weights_gb = 4 * encoder.parameters / GB
    work_gb = 1.0 if weights_gb > 1 else 0.0
    return Cost(
        encoder.parameters,
        encoder.operations,
        weights_gb + work_gb,
        downloads_gb=from_the_hub({model: encoder.download_gb}),
    )
