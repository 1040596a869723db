"""Trains the layout-conditioned mini on the drawn streets:

denoiser, text encoders and ControlNet together, from scratch.

Real SD3 ControlNets are trained beside a frozen, finished transformer; from scratch on a small budget the joint
training costs half. Most of each batch gets the label map, the rest stays text-to-image. Saves a pipeline folder with
`controlnet/` in it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from diffusers import AutoencoderKL
from PIL import Image

from synthgen.drawn import streets
from synthgen.minis.train.arguments import add_arguments, check_folder, schedule_of
from synthgen.minis.train.diffusion import mini_flow
from synthgen.minis.train.model_card import tile, write_model_card
from synthgen.minis.train.scenes import scenes
from synthgen.training.latents import batches, latents_of
from synthgen.training.loop import train
from synthgen.training.pipelines import load_pipeline, load_start, save

LENGTH = 36
CONTROL_LAYERS = 3


def palette() -> np.ndarray:
    """(256, 3) uint8: the colours in which label maps are painted for the ControlNet."""
    return np.array([*streets.PALETTE, *[(0, 0, 0)] * (256 - len(streets.PALETTE))], dtype=np.uint8)


def main(argv: list[str]) -> None:
    """`python -m synthgen.minis.train controlnet`."""
    parser = argparse.ArgumentParser(prog="python -m synthgen.minis.train controlnet", description=__doc__)
    add_arguments(parser, minutes=90, batch_size=32, learning_rate=1.2e-3)
    parser.add_argument("--vae", type=Path, required=True, help="folder of the trained VAE")
    parser.add_argument("--scenes", type=int, default=30_000)
    parser.add_argument("--controlled", type=float, default=0.75, help="share of each batch that gets the label map")
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
    flow = mini_flow(LENGTH, CONTROL_LAYERS, arguments.controlled)
    if arguments.start is not None:
        load_start(flow, arguments.start)
    world = scenes("streets", arguments.scenes, cache=arguments.cache)
    latents = latents_of(
        vae, world.images, world.captions, flow.tokenizer, arguments.cache, masks=world.masks, palette=palette()
    )
    facts = train(flow, batches(latents), schedule_of(arguments), arguments.out)
    if not PartialState().is_main_process:
        return
    folder = arguments.out / "model"
    save(flow, vae, folder)
    write_model_card(
        folder,
        "mini/streets: Stable Diffusion 3 with a ControlNet in miniature, streets",
        "Label map and text to image at 96 x 64 px through StableDiffusion3ControlNetPipeline: day, night, fog, "
        "rain, snow. The map is painted in"
        " the Cityscapes colours.",
        f"{len(world)} scenes drawn by the project (`synthgen.drawn.streets`) exact masks; "
        f"{arguments.controlled:.0%} of a batch with the map",
        facts,
        {"held-out quality": "rows minis/domain_obedience and minis/controlnet_ratio of benchmarks/results.csv"},
        "Small things are smeared and text alone gives no readable street. Prompts longer than 36 tokens are "
        "cut. Training goes on from these weights"
        " with `--start`.",
        samples(folder),
    )
    print(facts)


def samples(folder: Path) -> np.ndarray:
    """Ten held-out scenes: drawn above, made from their maps and captions below."""
    pipeline = load_pipeline(folder, control=True)
    scenes_ = [streets.draw(seed, domain=streets.DOMAINS[seed % 5]) for seed in range(10)]
    made = pipeline(
        [scene.caption for scene in scenes_],
        control_image=[Image.fromarray(palette()[scene.mask]) for scene in scenes_],
        num_inference_steps=20, guidance_scale=2.0, height=64, width=96, max_sequence_length=0,
        generator=[torch.Generator().manual_seed(n) for n in range(10)], output_type="np",
    ).images  # fmt: skip
    return tile([scene.image for scene in scenes_] + [np.round(image * 255).astype(np.uint8) for image in made], 10)
