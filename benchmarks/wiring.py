"""SD3.5-Large at full size with random weights on a GPU: rows wiring/*. Operations do not depend on weights:

time and memory are the true ones.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.row import Row, spread_of

STEPS = 28
SIZE_PX = 1024

# The published config.json of stabilityai/stable-diffusion-3.5-large; tests/wiring runs the same with fewer layers.
SD35_LARGE = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 38,
    "attention_head_dim": 64,
    "num_attention_heads": 38,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 2432,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
    "qk_norm": "rms_norm",
}
SD35_VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 16,
    "sample_size": 1024,
    "scaling_factor": 1.5305,
    "shift_factor": 0.0609,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}

# Stability's own ControlNets for SD3.5-Large as diffusers converts them: no text stream, positions taken from the
# transformer. 19 layers of this width are 2.1 thousand million weights, which agrees with the published files' size.
SD35_CONTROLNET = {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 19,
    "attention_head_dim": 64,
    "num_attention_heads": 38,
    "joint_attention_dim": None,
    "caption_projection_dim": 2048,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": None,
    "pos_embed_type": None,
    "use_pos_embed": False,
    "force_zeros_for_pooled_projection": False,
}


def full_size() -> Iterator[Row]:
    """Seconds per image and peak memory of the backend `sd3` at 1024 px, 28 steps, guidance, batch 1."""
    import torch

    if not torch.cuda.is_available():
        yield Row("wiring/sd35_large_s", "not run: no GPU", "s")
        yield Row("wiring/sd35_large_gb", "not run: no GPU", "GB")
        return
    from synthgen.backends import load
    from synthgen.models import RenderJob, TextEmbedding
    from synthgen.settings import Execution

    with tempfile.TemporaryDirectory() as place:
        save_random(Path(place))
        renderer = load("renderer", {"name": "sd3", "model": place, "steps": STEPS}, Execution(device="cuda"))
        rng = np.random.default_rng(0)
        text = TextEmbedding(rng.normal(size=(333, 4096)).astype(np.float32), rng.normal(size=2048).astype(np.float32))
        seconds = []
        for number in range(4):
            began = time.monotonic()
            renderer.render([RenderJob("s", "", "", number, SIZE_PX, SIZE_PX, text, text, None, None)])
            seconds.append(time.monotonic() - began)
    name = torch.cuda.get_device_name()
    yield Row("wiring/sd35_large_s", float(np.mean(seconds[1:])), "s", spread_of(seconds[1:]), 3, device=name)
    yield Row("wiring/sd35_large_gb", torch.cuda.max_memory_allocated() / 2**30, "GB", device=name)


def save_random(folder: Path) -> None:
    """A pipeline folder of SD3.5-Large's configuration without its text encoders (published config.json values)."""
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    transformer, vae = _random(SD3Transformer2DModel, SD35_LARGE), _random(AutoencoderKL, SD35_VAE)
    none = {f"{part}{number}": None for part in ("text_encoder", "tokenizer") for number in ("", "_2", "_3")}
    StableDiffusion3Pipeline(
        transformer=transformer, vae=vae, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), **none
    ).save_pretrained(folder)


def save_random_controlnet(folder: Path) -> None:
    """A ControlNet of Stability's kind for SD3.5-Large."""
    from diffusers import SD3ControlNetModel

    _random(SD3ControlNetModel, SD35_CONTROLNET).save_pretrained(folder)


def _random(kind: Any, config: dict[str, Any]) -> Any:
    """On the GPU and in bfloat16 from the start: initialising 8 thousand million weights takes minutes on a CPU."""
    import torch

    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda"):
            return kind(**config)
    finally:
        torch.set_default_dtype(torch.float32)
