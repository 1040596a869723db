"""Three flat shapes on grey sand:

label space, grammar, labelled support images and a recipe that uses the doubles throughout.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from synthgen.images import write_image

SIZE_PX = 32
BACKGROUND = (120, 120, 120)
COLOURS = {"disc": (220, 60, 40), "square": (40, 120, 220), "bar": (70, 200, 60)}
IDS = {"disc": 1, "square": 2, "bar": 3}

LABELS = """
name: shapes
background: 0
labels:
  - {id: 0, name: background, colour: [0, 0, 0]}
  - {id: 1, name: disc, colour: [220, 60, 40], synonyms: [coin]}
  - {id: 2, name: square, colour: [40, 120, 220]}
  - {id: 3, name: bar, colour: [70, 200, 60]}
"""

GRAMMAR = """
name: shapes
templates: ["a photo of {a} {size} {class} {place}"]
slots:
  size: [small, large, tiny, huge]
  place: [on sand, on snow, in a box]
"""

# For banks that keep away from what the words above give.
MORE_WORDS = """
name: shapes
templates: ["a photo of {a} {size} {class} {place} {time}"]
slots:
  size: [small, large, tiny, huge, wide, old, new]
  place: [on sand, on snow, in a box, under water, near trees, beside rocks]
  time: [at dawn, by noon, after dusk, every winter]
"""

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "title": "Shapes on sand, made by doubles",
    "seed": 5,
    "support": {"shots": 2},
    "prompts": {"embedder": {"name": "doubles.word_bag"}, "lambda_div": 0.9, "per_class": 4, "budget_per_class": 12},
    "render": {
        "renderer": {"name": "doubles.painter", "not_finite_in": 7, "blank_in": 6},
        "height_px": SIZE_PX,
        "width_px": SIZE_PX,
    },
    "refine": {
        "features": {"name": "doubles.colour_cells"},
        "mask_decoder": {"name": "doubles.same_colour"},
        "apf": {"lambda_apf": 0.5, "min_region_px": 6},
        "apr": {"min_cosine": 0.3, "min_margin": 0.01},
        "sabr": {"min_region_px": 6, "min_agreement": 0.3},
    },
    "filter": {
        "scorer": {"name": "doubles.colour_scorer"},
        "rules": {"min_class_fraction": 0.02, "min_labelled_fraction": 0.3},
    },
    "pack": {"samples_per_shard": 4, "validation_fraction": 0.4, "license": "cc0-1.0"},
    "execution": {"device": "cpu", "batch_size": 4, "unit_rows": 3},
}


def paint(name: str, seed: int, size_px: int = SIZE_PX) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) image and (H, W) mask of one shape at a place that follows from the seed."""
    rng = np.random.default_rng(seed)
    image = np.empty((size_px, size_px, 3), np.uint8)
    image[:] = BACKGROUND
    y, x = np.indices((size_px, size_px))
    radius = size_px // 5 + int(rng.integers(3))
    row, column = (int(v) for v in rng.integers(radius + 1, size_px - radius - 1, 2))
    shape = {
        "disc": (y - row) ** 2 + (x - column) ** 2 <= radius**2,
        "square": (abs(y - row) <= radius - 1) & (abs(x - column) <= radius - 1),
        "bar": (abs(y - row) <= 2) & (abs(x - column) <= radius),
    }[name]
    image[shape] = COLOURS[name]
    image = np.clip(image + rng.integers(-10, 11, image.shape), 0, 255).astype(np.uint8)
    return image, np.where(shape, IDS[name], 0).astype(np.uint8)


def write_world(folder: Path) -> None:
    """labels.yaml, grammar.yaml and support/ (three images a class)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.yaml").write_text(LABELS, encoding="utf-8")
    (folder / "grammar.yaml").write_text(GRAMMAR, encoding="utf-8")
    for part in ("images", "labels"):
        (folder / "support" / part).mkdir(parents=True, exist_ok=True)
    for name in COLOURS:
        for seed in range(3):
            image, mask = paint(name, 1000 + seed)
            write_image(image, folder / "support" / "images" / f"{name}_{seed}.png")
            write_image(mask, folder / "support" / "labels" / f"{name}_{seed}.png")


def recipe_of_world(folder: Path, **changes: Any) -> dict[str, Any]:
    """The recipe over the world in `folder`; changes are `section__key=value`."""
    raw = copy.deepcopy(RECIPE)
    raw["labels"] = {"space": str(folder / "labels.yaml")}
    raw["support"]["folder"] = str(folder / "support")
    raw["prompts"]["source"] = {"name": "grammar", "vocabulary": str(folder / "grammar.yaml")}
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        node = raw
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return raw


def write_recipe(folder: Path, path: Path, **changes: Any) -> Path:
    """The recipe over the world in `folder`, as a file."""
    path.write_text(yaml.safe_dump(recipe_of_world(folder, **changes)), encoding="utf-8")
    return path
