"""Loads an SD3-type pipeline of diffusers without its text encoders, with a ControlNet or without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthgen.models.controlnets import ControlNet
from synthgen.models.weights import loading


def load_sd3_pipeline(
    model: str, place: Path | str, revision: dict[str, str], net: ControlNet | None, dtype: Any, quantised: Any
) -> Any:
    """A StableDiffusion3Pipeline in main memory, or a StableDiffusion3ControlNetPipeline whose VAE encodes the
    condition to its posterior's mean. `quantised` is the transformer's quantisation_config or None.

    Raises ModelError in one line, naming `model` or the ControlNet, for weights that cannot be had.
    """
    from diffusers import (
        SD3ControlNetModel,
        SD3Transformer2DModel,
        StableDiffusion3ControlNetPipeline,
        StableDiffusion3Pipeline,
    )

    from synthgen.models.acceleration import encode_without_noise

    parts: dict[str, Any] = {
        f"{part}{number}": None for part in ("text_encoder", "tokenizer") for number in ("", "_2", "_3")
    }
    with loading(model):
        if quantised is not None:
            parts["transformer"] = SD3Transformer2DModel.from_pretrained(
                place, subfolder="transformer", quantization_config=quantised, dtype=dtype, **revision
            )
        pipeline = StableDiffusion3Pipeline.from_pretrained(place, **parts, dtype=dtype, **revision)
    if net is not None:
        with loading(net.name):
            network = SD3ControlNetModel.from_pretrained(net.place, dtype=dtype, **net.load_options)
        encode_without_noise(pipeline.vae)
        pipeline = StableDiffusion3ControlNetPipeline(controlnet=network, **pipeline.components)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
