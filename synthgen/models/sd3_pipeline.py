"""Loads an SD3-type pipeline of diffusers without its text encoders, with a ControlNet or without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthgen.errors import ModelError
from synthgen.models.controlnets import ControlNet
from synthgen.models.provenance import pinned_revision
from synthgen.models.weights import loading, resolve
from synthgen.models.whole_networks import load_network, load_single_file, pipeline_index

LORA_FILE = "pytorch_lora_weights.safetensors"


def sd3_index(model: str, place: Path | str, revision: dict[str, str]) -> dict[str, Any]:
    """`model_index.json` of an SD3-type pipeline. Raises ModelError in one line for anything else."""
    return pipeline_index(
        model,
        place,
        revision,
        ("StableDiffusion3",),
        way_out="render.renderer.name=diffusers renders other families",
        single_file=", and give the file as render.renderer.denoiser_file",
    )


def load_sd3_pipeline(
    model: str,
    place: Path | str,
    revision: dict[str, str],
    net: ControlNet | None,
    dtype: Any,
    quantised: Any,
    *,
    variant: str = "",
    denoiser_file: str = "",
) -> Any:
    """A StableDiffusion3Pipeline in main memory, or a StableDiffusion3ControlNetPipeline whose VAE encodes the
    condition to its posterior's mean. `quantised` is the transformer's quantisation_config or None; `denoiser_file`
    one .safetensors file in place of the folder's transformer.

    Raises ModelError in one line, naming `model` or the ControlNet, for weights that cannot be had or lack a tensor.
    """
    from diffusers import (
        AutoencoderKL,
        SD3ControlNetModel,
        SD3Transformer2DModel,
        StableDiffusion3ControlNetPipeline,
        StableDiffusion3Pipeline,
    )

    from synthgen.models.acceleration import encode_without_noise

    parts: dict[str, Any] = {
        f"{part}{number}": None for part in ("text_encoder", "tokenizer") for number in ("", "_2", "_3")
    }
    if denoiser_file and quantised is not None:
        raise ModelError(
            "render.renderer.denoiser_file: one file cannot be quantised while it is loaded; use "
            "execution.quantise=fp8 or none"
        )
    if denoiser_file:
        parts["transformer"] = load_single_file(
            SD3Transformer2DModel, denoiser_file, model, place, "transformer", dtype, revision
        )
    else:
        more = {} if quantised is None else {"quantization_config": quantised}
        parts["transformer"] = load_network(
            SD3Transformer2DModel, model, place, "transformer", dtype, revision, variant=variant, **more
        )
    parts["vae"] = load_network(AutoencoderKL, model, place, "vae", dtype, revision, variant=variant)
    with loading(model):
        pipeline = StableDiffusion3Pipeline.from_pretrained(place, **parts, dtype=dtype, **revision)
    if net is not None:
        at = dict(net.load_options)
        network = load_network(SD3ControlNetModel, net.name, net.place, at.pop("subfolder", ""), dtype, at)
        encode_without_noise(pipeline.vae)
        pipeline = StableDiffusion3ControlNetPipeline(controlnet=network, **pipeline.components)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def add_lora(pipeline: Any, name: str) -> None:
    """Load a low-rank change of the denoiser, from a folder of `synthgen adapt`, a folder that holds LORA_FILE, a file,
    or the Hub; merged into the weights where they are not quantised.

    Raises ModelError in one line for one that cannot be had or is not of this denoiser.
    """
    place = resolve(name)
    options: dict[str, Any] = {"weight_name": LORA_FILE, **pinned_revision(name)}
    if isinstance(place, Path):
        if place.is_file():
            place, options["weight_name"] = place.parent, place.name
        elif (place / "lora" / LORA_FILE).is_file():
            place = place / "lora"
    with loading(name):
        pipeline.load_lora_weights(place, use_safetensors=True, **options)
    if getattr(pipeline.transformer, "hf_quantizer", None) is None:
        pipeline.fuse_lora(components=["transformer"])
        pipeline.unload_lora_weights()
