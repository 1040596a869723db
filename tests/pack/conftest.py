"""A run folder as the filter stage leaves it: drawn pictures on disk and their Sample rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from doubles.rows import row as row_of

from segkit.labels import LabelSpace
from synthgen.images import write_image
from synthgen.labels import read_label_space
from synthgen.pack import stage
from synthgen.pack_settings import Pack
from synthgen.recipe import Recipe
from synthgen.records import Sample, ShardRecord, key_of
from synthgen.settings import Labels

LABELS = """
name: shapes
background: 0
labels:
  - {id: 0, name: background, colour: [0, 0, 0]}
  - {id: 1, name: disc, colour: [220, 60, 40]}
  - {id: 2, name: "pipe | bar", colour: [40, 120, 220]}
  - {id: 7, name: star, colour: [240, 200, 40]}
"""


@dataclasses.dataclass
class MadeRun:
    """What `finish` is given, before packing."""

    folder: Path
    recipe: Recipe
    labels: LabelSpace
    samples: list[Sample]

    def pack(self) -> list[ShardRecord]:
        """Pack as the runner does: a temporary folder for each planned unit, renamed when it is whole."""
        packer = stage.build(self.recipe, self.folder)
        shards: list[ShardRecord] = []
        for unit, rows in stage.plan(self.samples, self.recipe):
            working = self.folder / "pack" / f".{unit}"
            working.mkdir(parents=True)
            shards += packer.process(rows, working, unit)
            working.rename(self.folder / "pack" / unit)
        return shards


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., MadeRun]:
    def make(name: str = "run", count: int = 10, size: tuple[int, int] = (24, 32), **pack: object) -> MadeRun:
        space = tmp_path / "labels.yaml"
        space.write_text(LABELS)
        labels = read_label_space(str(space))
        recipe = Recipe(name="shapes-test", title="Shapes", labels=Labels(space=str(space)), pack=Pack(**pack))
        folder = tmp_path / name
        (folder / "art").mkdir(parents=True)
        samples = [_sample(folder, labels, number, size) for number in range(count)]
        return MadeRun(folder, recipe, labels, samples)

    return make


def _sample(folder: Path, labels: LabelSpace, number: int, size: tuple[int, int]) -> Sample:
    rng = np.random.default_rng(number)
    key = key_of("s", number)
    label = labels.foreground[number % 3]
    mask = np.zeros(size, dtype=np.uint8)
    top, left = rng.integers(1, 8, 2)
    mask[top : top + 12, left : left + 14] = label.id
    mask[-3:, -5:] = 255
    image = (labels.paint(mask) // 2 + rng.integers(0, 100, (*size, 3))).astype(np.uint8)
    names = {part: f"art/{key}.{part}.png" for part in ("image", "mask", "confidence")}
    write_image(image, folder / names["image"])
    write_image(mask, folder / names["mask"])
    write_image(rng.integers(0, 256, size).astype(np.uint8), folder / names["confidence"])
    return row_of(
        Sample,
        key=key,
        parent=key_of("p", number),
        split="validation" if number % 5 == 4 else "train",
        class_name=label.name,
        class_id=label.id,
        prompt=f'a "{label.name}" \u00e0 la caf\u00e9 {number}',
        attributes=("place=sand", "time=night"),
        seed=number,
        image=names["image"],
        height_px=size[0],
        width_px=size[1],
        renderer="photograph",
        model_revision="",
        steps=20,
        guidance=7,  # an int on purpose: it must be written 7.0
        layout="/home/somebody/layouts/plan.png",
        mask=names["mask"],
        confidence=names["confidence"],
        region_similarity=1e-07,
        filled_fraction=1.0,
        labelled_fraction=float(np.mean(mask != 255)),
        class_fraction=float(np.mean(mask == label.id)),
        sam_predicted_iou=-1.0,
        text_image_score=0.25,
        class_rank=0,
        pixel_std=float(image.std()),
        nearest_image_similarity=-1.0,
    )
