"""Masks of generated images against outlines drawn by hand: rows masks/hand/*. They judge the judge, too.

`hand_outlined/` holds 60 images of the default recipe, of each class those at places 0, 5 and 10 in the order of their
keys, and the outline of the object in each as polygons in pixels, drawn once on enlarged pictures without masks on
them (masks of numbers 0 to 8 and 36 to 44 had been looked at before). At 64 px an outline is right to a pixel or so,
which costs a mask that is right itself a tenth of its IoU; the class was known, whether the picture shows it was not
asked. The oracle is that of `masks/generated/*`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.generated import BROKEN, iou, oracle
from benchmarks.masks import refine
from benchmarks.row import Row, spread_of
from segkit.documents import read_json
from segkit.pictures import read_image
from synthgen.drawn.objects import CLASSES
from synthgen.recipe import read_recipe
from synthgen.refine import stage

FOLDER = Path(__file__).parent / "hand_outlined"
STEPS = {"coarse": "coarse", "final": "sabr"}
ROWS = (
    *(f"masks/hand/{step}_{what}" for step in STEPS for what in ("iou", "broken")),
    "masks/hand/oracle_iou",
    "masks/hand/gain_final_over_oracle",
)
_FINER = 8  # an outline is filled at this many times the size; a pixel is inside if half of it is


def rows() -> Iterator[Row]:
    """IoU with the outlined object, mean over images (n = images), of the recipe's masks and of the oracle's object."""
    truths = outlined()
    images = [read_image(FOLDER / "images" / f"{stem}.png") for stem in truths]
    class_ids = [1 + CLASSES.index(stem.partition("_")[2]) for stem in truths]
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        masks = refine(stage.build(read_recipe("syn4seg-mini"), Path(place)), Path(place), images, class_ids)
    for step, name in STEPS.items():
        made = [mask[name] == class_id for mask, class_id in zip(masks, class_ids, strict=True)]
        found[step] = [iou(mask, truth) for mask, truth in zip(made, truths.values(), strict=True)]
    seen = [prediction != 0 for prediction in oracle().predict(images)]
    found["oracle"] = [iou(mask, truth) for mask, truth in zip(seen, truths.values(), strict=True)]
    for step, values in found.items():
        yield Row(f"masks/hand/{step}_iou", float(np.mean(values)), "fraction", spread_of(values), len(values))
        if step in STEPS:
            broken = float(np.mean(np.asarray(values) < BROKEN))
            yield Row(f"masks/hand/{step}_broken", broken, "fraction", "", len(values))
    gains = np.subtract(found["final"], found["oracle"])
    yield Row("masks/hand/gain_final_over_oracle", float(gains.mean()), "fraction", spread_of(gains), len(gains))


def outlined() -> dict[str, np.ndarray]:
    """Stem of the image -> (64, 64) bool, the object; in order."""
    drawn = read_json(FOLDER / "outlines.json")
    return {stem: filled(of_image["outlines"], of_image["holes"]) for stem, of_image in sorted(drawn.items())}


def filled(
    outlines: list[list[list[float]]], holes: list[list[list[float]]], size_px: tuple[int, int] = (64, 64)
) -> np.ndarray:
    """(H, W) bool: the pixels of which at least half lies inside an outline and in no hole; corners are (x, y) px."""
    height, width = size_px
    fine = Image.new("L", (width * _FINER, height * _FINER), 0)
    draw = ImageDraw.Draw(fine)
    for polygons, value in ((outlines, 255), (holes, 0)):
        for polygon in polygons:
            draw.polygon([(x * _FINER, y * _FINER) for x, y in polygon], fill=value)
    return np.asarray(fine.resize((width, height), Image.Resampling.BOX)) >= 128
