"""Trains the prior of the drawn streets: text to image in every weather, and not one label map.

This is what the web-trained model is to a user of `synthgen adapt`: it knows night, fog, rain and snow, and objects
that no street has, from captions alone. Starts from mini/objects, which has never seen a street. Saves a pipeline
folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from diffusers import AutoencoderKL, SD3Transformer2DModel
from transformers import CLIPTextModelWithProjection

from synthgen.drawn import street_intruders, streets
from synthgen.minis.train.arguments import add_arguments, check_folder, schedule_of
from synthgen.minis.train.diffusion import mini_flow
from synthgen.minis.train.model_card import tile, write_model_card
from synthgen.minis.train.scenes import scenes
from synthgen.models.weights import resolve
from synthgen.training.flow import Flow
from synthgen.training.latents import batches, latents_of
from synthgen.training.loop import train
from synthgen.training.pipelines import load_pipeline, save

LENGTH = 36
INTRUDERS = 0.3  # share of the scenes with one


def main(argv: list[str]) -> None:
    """`python -m synthgen.minis.train prior`."""
    parser = argparse.ArgumentParser(prog="python -m synthgen.minis.train prior", description=__doc__)
    add_arguments(parser, minutes=90, batch_size=32, learning_rate=1.0e-3)
    parser.add_argument("--scenes", type=int, default=40_000)
    parser.add_argument("--start", type=Path, default=None, help="pipeline folder; default: mini/objects")
    arguments = parser.parse_args(argv)
    check_folder(parser, "--start", arguments.start, "model_index.json")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    start = arguments.start or Path(resolve("mini/objects"))
    vae = AutoencoderKL.from_pretrained(start / "vae").eval()
    torch.manual_seed(arguments.seed)
    flow = mini_flow(LENGTH)
    take(flow, start)
    with PartialState(cpu=not torch.cuda.is_available()).local_main_process_first():
        world = scenes("streets", arguments.scenes, cache=arguments.cache, intruder_probability=INTRUDERS)
        latents = latents_of(vae, world.images, world.captions, flow.tokenizer, arguments.cache)
    facts = train(flow, batches(latents), schedule_of(arguments), arguments.out)
    if not PartialState().is_main_process:
        return
    folder = arguments.out / "model"
    save(flow, vae, folder)
    write_model_card(
        folder,
        "mini/streets: Stable Diffusion 3 in miniature, streets",
        "Text to image at 96 x 64 px through StableDiffusion3Pipeline: day, night, fog, rain, snow. It has never seen "
        "a label map.",
        f"{len(world)} scenes that the project draws (`synthgen.drawn.streets`), 30 % with an object that no street "
        f"has ({', '.join(street_intruders.TRAINING)}); captions only; start: mini/objects",
        facts,
        {"held-out quality": "rows adapt/* and minis/* of benchmarks/results.csv"},
        "Small things are smeared and text alone gives no readable street. Prompts longer than 36 tokens are cut.",
        samples(folder),
    )
    print(facts)


def take(flow: Flow, folder: Path) -> None:
    """The weights of a mini pipeline whose text encoders may have fewer positions; the new ones keep random weights."""
    flow.transformer.load_state_dict(SD3Transformer2DModel.from_pretrained(folder / "transformer").state_dict())
    for name in ("text_encoder", "text_encoder_2"):
        target = getattr(flow, name).state_dict()
        for key, value in CLIPTextModelWithProjection.from_pretrained(folder / name).state_dict().items():
            if value.ndim and target[key].shape != value.shape:
                target[key][: len(value)] = value[: len(target[key])]
            else:
                target[key] = value
        getattr(flow, name).load_state_dict(target)


def samples(folder: Path) -> np.ndarray:
    """Ten held-out captions, two of each weather: drawn above, made from the caption below."""
    pipeline = load_pipeline(folder)
    scenes_ = [streets.draw(seed, domain=streets.DOMAINS[seed % 5]) for seed in range(10)]
    made = pipeline(
        [scene.caption for scene in scenes_],
        num_inference_steps=20, guidance_scale=3.0, height=64, width=96, max_sequence_length=0,
        generator=[torch.Generator().manual_seed(n) for n in range(10)], output_type="np",
    ).images  # fmt: skip
    return tile([scene.image for scene in scenes_] + [np.round(image * 255).astype(np.uint8) for image in made], 10)
