"""Does the generated set make a better segmenter? Rows use/*: segtrain on few labelled images, with and without it;

held-out drawn scenes.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.row import SCRATCH, Row, scored, spread_of
from segtrain.config import train_config
from segtrain.evaluate import evaluate
from segtrain.methods.supervised.method import train
from synthgen.drawn import objects as world
from synthgen.drawn.split import write_split
from synthgen.images import write_image

SEEDS = (0, 1, 2)
SHOTS = 5
STEPS = 600
# A network from scratch sees no object in so few images and steps; ImageNet weights are what a practitioner starts
# from.
ENCODER = {"encoder": "tu-tf_efficientnet_lite0", "encoder_weights": "package"}
HELD_OUT_SEED, HELD_OUT = 3000, 400


def drawn() -> Iterator[Row]:
    """5 labelled drawings a class, others for each seed;

    the same steps with and without the set that the default recipe makes from them (1:1).

    The generator has seen many drawn scenes without their masks; the masks of the generated set come from the same 5 a
    class alone.
    """
    held_out = SCRATCH / "use-held-out"
    if not held_out.exists():
        write_split(held_out, "objects", HELD_OUT, HELD_OUT_SEED)
    scores: dict[str, list[float]] = {"few": [], "few_plus_synthetic": []}
    for seed in SEEDS:
        few = _few(seed)
        made = _generated(few, seed)
        for name, data, ratio in (("few", (str(few),), ()), ("few_plus_synthetic", (str(few), str(made)), (1.0, 1.0))):
            out = SCRATCH / f"use-model-{name}-{seed}"
            train(train_config(data=data, ratio=ratio, out=out, steps=STEPS, seed=seed, num_threads=1, **ENCODER))
            scores[name].append(scored(evaluate(out, held_out).miou))
            print(f"  {name} seed {seed}: {scores[name][-1]:.3f}", flush=True)
    for name, values in scores.items():
        yield Row(f"use/drawn/{name}_miou", float(np.mean(values)), "fraction", spread_of(values), len(values))


def _generated(few: Path, seed: int) -> Path:
    """The default recipe's dataset with `few` as its support set."""
    settings = ("--set", f"support.folder={few}", "--set", "support.drawn=null", "--set", f"seed={seed}")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "synthgen",
            "run",
            "syn4seg-mini",
            "--runs",
            str(SCRATCH / "runs"),
            "--run",
            f"use-{seed}",
            *settings,
        ],
        check=True,
    )
    return SCRATCH / "runs" / f"use-{seed}" / "dataset"


def _few(seed: int) -> Path:
    """A labelled folder with SHOTS drawings of each class."""
    folder = SCRATCH / f"use-few-{seed}"
    if folder.exists():
        return folder
    write_split(folder, "objects", 1, 0)  # makes the folders and labels.yaml
    for file in (*folder.glob("images/*"), *folder.glob("labels/*")):
        file.unlink()
    for number, class_name in enumerate(world.CLASSES * SHOTS):
        scene = world.draw(100_000 * (seed + 1) + number, class_name=class_name)
        write_image(scene.image, folder / "images" / f"{number:04d}.png")
        write_image(scene.mask, folder / "labels" / f"{number:04d}.png")
    return folder
