"""A labelled folder of chosen drawings of the objects world."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.trainings import whole
from synthgen.drawn import objects as world
from synthgen.drawn.split import write_split
from synthgen.images import write_image


def drawings(folder: Path, wanted: Iterable[tuple[str, int, str]]) -> Path:
    """`wanted` = stem, seed and class of each; made where it lacks."""

    def make(out: Path) -> None:
        write_split(out, "objects", 1, 0)  # makes the folders and labels.yaml
        for file in (*out.glob("images/*"), *out.glob("labels/*")):
            file.unlink()
        for stem, seed, class_name in wanted:
            scene = world.draw(seed, class_name=class_name)
            write_image(scene.image, out / "images" / f"{stem}.png")
            write_image(scene.mask, out / "labels" / f"{stem}.png")

    return whole(folder, make)
