"""Trains the text-to-image mini: two CLIP text encoders and an SD3 transformer, from scratch, on the drawn objects.

Needs the VAE (`--vae FOLDER`). Saves a StableDiffusion3Pipeline folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusion3ControlNetPipeline,
    StableDiffusion3Pipeline,
)

from synthgen.drawn import objects
from synthgen.files import write_bytes
from synthgen.minis.train.diffusion import Flow, batches, latents_of
from synthgen.minis.train.loop import add_arguments, check_folder, schedule_of, train
from synthgen.minis.train.model_card import tile, write_model_card
from synthgen.minis.train.scenes import scenes

LENGTH = 24  # text positions: no caption of the objects world is longer


def main(argv: list[str]) -> None:
    """`python -m synthgen.minis.train denoiser`."""
    parser = argparse.ArgumentParser(prog="python -m synthgen.minis.train denoiser", description=__doc__)
    add_arguments(parser, minutes=90, batch_size=48, learning_rate=1.2e-3)
    parser.add_argument("--vae", type=Path, required=True, help="folder of the trained VAE")
    parser.add_argument("--scenes", type=int, default=60_000)
    parser.add_argument(
        "--start", type=Path, default=None, help="pipeline folder to go on from, for example the shipped one"
    )
    arguments = parser.parse_args(argv)
    check_folder(parser, "--vae", arguments.vae, "config.json")
    check_folder(parser, "--start", arguments.start, "model_index.json")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    vae = AutoencoderKL.from_pretrained(arguments.vae).eval()
    torch.manual_seed(arguments.seed)
    flow = Flow(LENGTH)
    if arguments.start is not None:
        load_start(flow, arguments.start)
    world = scenes("objects", arguments.scenes, cache=arguments.cache)
    latents = latents_of(vae, world, flow.tokenizer, arguments.cache, palette=None)
    facts = train(flow, batches(latents), schedule_of(arguments), arguments.out)
    if not PartialState().is_main_process:
        return
    folder = arguments.out / "model"
    save(flow, vae, folder)
    write_model_card(
        folder,
        "mini/objects: Stable Diffusion 3 in miniature, objects",
        "Text to image at 64 px through StableDiffusion3Pipeline: 20 object classes in 6 places, by day and "
        "night, in fog and rain.",
        f"{len(world)} scenes drawn by the project (`synthgen.drawn.objects`), captions with class, "
        "colour, facing side, place, time, weather",
        facts,
        {"held-out quality": "rows minis/object_obedience and minis/vae_psnr_db of benchmarks/results.csv"},
        "It knows the words of its captions and no others, and draws cartoons, not photographs. Prompts longer "
        "than 24 tokens are cut.",
        samples(folder),
    )
    print(facts)


def samples(folder: Path) -> np.ndarray:
    """Two images of each class from held-out captions: (4 * 64, 10 * 64, 3) uint8."""
    pipeline = load_pipeline(folder)
    captions = [objects.draw(seed, class_name=name).caption for seed in (11, 12) for name in objects.CLASSES]
    images: list[np.ndarray] = []
    for start in range(0, len(captions), 10):
        generators = [torch.Generator().manual_seed(start + n) for n in range(10)]
        made = pipeline(
            captions[start : start + 10], num_inference_steps=20, guidance_scale=3.0, height=64, width=64,
            max_sequence_length=0, generator=generators, output_type="np",
        ).images  # fmt: skip
        images += [np.round(image * 255).astype(np.uint8) for image in made]
    return tile(images, 10)


def load_start(flow: Flow, folder: Path) -> None:
    """Take the weights of a saved pipeline folder as the start of a training."""
    from diffusers import SD3ControlNetModel, SD3Transformer2DModel
    from transformers import CLIPTextModelWithProjection

    flow.transformer.load_state_dict(SD3Transformer2DModel.from_pretrained(folder / "transformer").state_dict())
    for name in ("text_encoder", "text_encoder_2"):
        getattr(flow, name).load_state_dict(CLIPTextModelWithProjection.from_pretrained(folder / name).state_dict())
    if flow.controlnet is not None:
        flow.controlnet.load_state_dict(SD3ControlNetModel.from_pretrained(folder / "controlnet").state_dict())


def save(flow: Flow, vae: AutoencoderKL, folder: Path) -> None:
    """The pipeline folder, float16 on disk, files of at most 16 MB; a ControlNet goes into `controlnet/` beside it."""
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
    # no T5: the pipeline would append 256 zero tokens that the denoiser has never seen
    (folder / "synthgen.json").write_text('{"max_sequence_length": 0}\n', encoding="utf-8")
    if flow.controlnet is not None:
        flow.controlnet.half().save_pretrained(folder / "controlnet", max_shard_size="16MB")
    # the backends' default is 256 tokens for T5, of which this denoiser has seen none
    write_bytes(json.dumps({"max_sequence_length": 0}).encode() + b"\n", folder / "synthgen.json")
    for path in sorted(folder.glob("*/config.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.pop("_name_or_path", None) is not None:  # where this machine keeps its VAE is nobody's business
            write_bytes(json.dumps(config, indent=2, sort_keys=True).encode() + b"\n", path)


def load_pipeline(folder: Path, control: bool = False) -> Any:
    """The saved pipeline in float32, for evaluation."""
    from diffusers import SD3ControlNetModel

    plain = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None, dtype=torch.float32)
    plain.set_progress_bar_config(disable=True)
    if not control:
        return plain
    net = SD3ControlNetModel.from_pretrained(folder / "controlnet", dtype=torch.float32)
    pipeline = StableDiffusion3ControlNetPipeline(controlnet=net, **plain.components)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
