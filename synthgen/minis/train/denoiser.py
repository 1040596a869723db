"""Trains the text-to-image mini: two CLIP text encoders and an SD3 transformer, from scratch, on the drawn objects.

Needs the VAE (`--vae FOLDER`). Saves a StableDiffusion3Pipeline folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from diffusers import AutoencoderKL

from synthgen.drawn import objects
from synthgen.minis.train.arguments import add_arguments, check_folder, schedule_of
from synthgen.minis.train.diffusion import mini_flow
from synthgen.minis.train.model_card import tile, write_model_card
from synthgen.minis.train.scenes import scenes
from synthgen.training.latents import batches, latents_of
from synthgen.training.loop import train
from synthgen.training.pipelines import load_pipeline, load_start, save

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
    flow = mini_flow(LENGTH)
    if arguments.start is not None:
        load_start(flow, arguments.start)
    world = scenes("objects", arguments.scenes, cache=arguments.cache)
    latents = latents_of(vae, world.images, world.captions, flow.tokenizer, arguments.cache)
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
