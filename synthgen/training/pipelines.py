"""SD3-type pipelines as folders of diffusers' layout: what a training starts from, what it saves, what judges it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3ControlNetModel,
    SD3Transformer2DModel,
    StableDiffusion3ControlNetPipeline,
    StableDiffusion3Pipeline,
)
from transformers import CLIPTextModelWithProjection

from synthgen.files import write_bytes
from synthgen.training.flow import Flow


def load_start(flow: Flow, folder: Path) -> None:
    """Take the weights of a saved pipeline folder as the start of a training."""
    flow.transformer.load_state_dict(SD3Transformer2DModel.from_pretrained(folder / "transformer").state_dict())
    for name in ("text_encoder", "text_encoder_2"):
        getattr(flow, name).load_state_dict(CLIPTextModelWithProjection.from_pretrained(folder / name).state_dict())


def save(flow: Flow, vae: AutoencoderKL, folder: Path) -> None:
    """The pipeline folder, float16 on disk, files of at most 16 MB."""
    parts: dict[str, Any] = {
        "transformer": flow.transformer,
        "text_encoder": flow.text_encoder,
        "text_encoder_2": flow.text_encoder_2,
        "text_encoder_3": None,
        "tokenizer": flow.tokenizer,
        "tokenizer_2": flow.tokenizer,
        "tokenizer_3": None,
        "vae": vae,
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=1.0),
    }
    pipeline = StableDiffusion3Pipeline(**parts)
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(folder, max_shard_size="16MB")
    # the backends' default is 256 tokens for T5, of which this denoiser has seen none
    write_bytes(json.dumps({"max_sequence_length": 0}).encode() + b"\n", folder / "synthgen.json")
    for path in sorted(folder.glob("*/config.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.pop("_name_or_path", None) is not None:  # where this machine keeps its VAE is nobody's business
            write_bytes(json.dumps(config, indent=2, sort_keys=True).encode() + b"\n", path)


def load_pipeline(folder: Path, control: bool = False) -> Any:
    """The saved pipeline in float32, for evaluation."""
    plain = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None, dtype=torch.float32)
    plain.set_progress_bar_config(disable=True)
    if not control:
        return plain
    net = SD3ControlNetModel.from_pretrained(folder / "controlnet", dtype=torch.float32)
    pipeline = StableDiffusion3ControlNetPipeline(controlnet=net, **plain.components)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
