"""Thresholds by leave-one-out over the support set against constants: rows calibration/*.

`guess` are the package's default constants, `recipe` those of the recipe (chosen by hand for its features), `loo` is
`auto` for all three. Scored as masks/* are: mIoU of the recipe's final masks on images with known truth, an unlabelled
pixel counts as missed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks import photographs
from benchmarks.masks import OF_PROTOTYPES, SUPPORT_SEEDS, class_ids_of, drawn_scenes, refine
from benchmarks.photographs import by_sequence, evenly, labelled
from benchmarks.row import Row, scored, spread_of
from segtrain.metrics.iou import mean_iou
from synthgen.labels import read_label_space
from synthgen.recipe import read_recipe
from synthgen.refine import stage
from synthgen.refine.calibration import DEFAULTS
from synthgen.settings import AUTO

_NAMES = {
    "lambda_apf": "refine.apf.lambda_apf",
    "min_cosine": "refine.apr.min_cosine",
    "min_margin": "refine.apr.min_margin",
}
CHOICES: dict[str, tuple[str, ...]] = {
    "guess": tuple(f"{setting}={getattr(DEFAULTS, name)}" for name, setting in _NAMES.items()),
    "recipe": (),
    "loo": tuple(f"{setting}={AUTO}" for setting in _NAMES.values()),
}
ROWS = {data: tuple(f"calibration/{data}/{choice}_iou" for choice in CHOICES) for data in ("drawn", "camvid")}


def drawn(per_class: int = 10, seeds: Sequence[int] = SUPPORT_SEEDS, settings: Sequence[str] = ()) -> Iterator[Row]:
    """The default recipe with coarse masks from prototypes on held-out drawings, `per_class` of each class.

    Spread over the seeds of the support set.
    """
    scenes, space = drawn_scenes(per_class), read_label_space("objects")
    images, truth = [scene.image for scene in scenes], [scene.mask for scene in scenes]
    for choice, chosen in CHOICES.items():
        values = []
        for seed in seeds:
            recipe = read_recipe(
                "syn4seg-mini",
                [f"support.drawn.seed={seed}", *OF_PROTOTYPES, *settings, *chosen],
            )
            with tempfile.TemporaryDirectory() as place:
                masks = refine(stage.build(recipe, Path(place)), Path(place), images, class_ids_of(scenes))
            values.append(scored(mean_iou([mask["sabr"] for mask in masks], truth, space.ids)))
        yield _row("drawn", choice, values)


def camvid(
    support: int = photographs.SUPPORT, frames: int = photographs.FRAMES, settings: Sequence[str] = ()
) -> Iterator[Row]:
    """The recipe label-photos on each CamVid sequence with support images of the others; spread over the sequences."""
    if not photographs.CAMVID.is_dir():
        print(f"  not run: no CamVid in {photographs.CAMVID}; set SYNTHGEN_CAMVID to the folder with train/ and val/")
        return
    space, sequences = read_label_space("camvid"), by_sequence()
    for choice, chosen in CHOICES.items():
        values = []
        for name, own in sequences.items():
            others = [frame for other, more in sequences.items() if other != name for frame in more]
            masks, truth = labelled(evenly(others, support), evenly(own, frames), space, [*settings, *chosen])
            values.append(scored(mean_iou([mask["sabr"] for mask in masks], truth, space.ids)))
        yield _row("camvid", choice, values)


def _row(data: str, choice: str, values: Sequence[float]) -> Row:
    return Row(f"calibration/{data}/{choice}_iou", float(np.mean(values)), "fraction", spread_of(values), len(values))
