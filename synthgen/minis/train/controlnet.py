"""Trains the layout-conditioned mini on the drawn streets: denoiser, text encoders and ControlNet together, from scratch.

Real SD3 ControlNets are trained beside a frozen, finished transformer; from scratch on a small budget the joint training costs half. Most of
each batch gets the label map, the rest stays text-to-image. Saves a pipeline folder with `controlnet/` in it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from synthgen.minis.train.denoiser import load_start, save
from synthgen.minis.train.diffusion import Flow, batches, latents_of
from synthgen.minis.train.loop import add_arguments, check_folder, schedule_of, train
from synthgen.minis.train.scenes import scenes
from synthgen.minis.world import streets

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
    parser.add_argument("--start", type=Path, default=None, help="pipeline folder to go on from, for example the shipped one")
    arguments = parser.parse_args(argv)
    check_folder(parser, "--vae", arguments.vae, "config.json")
    check_folder(parser, "--start", arguments.start, "model_index.json")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    vae = AutoencoderKL.from_pretrained(arguments.vae).eval()
    torch.manual_seed(arguments.seed)
    flow = Flow(LENGTH, CONTROL_LAYERS, arguments.controlled)
    if arguments.start is not None:
        load_start(flow, arguments.start)
    world = scenes("streets", arguments.scenes, cache=arguments.cache)
    latents = latents_of(vae, world, flow.tokenizer, arguments.cache, palette())
    facts = train(flow, batches(latents), schedule_of(arguments), arguments.out)
    save(flow, vae, arguments.out / "model")
    print(facts)
