"""What benchmarks/flexseg.py learns from and is tested on: drawn streets, generated ones, warped ones."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.labelled import write_labelled
from benchmarks.trainings import dataset_of, whole
from segkit.pictures import read_image
from synthgen.drawn import streets
from synthgen.drawn.drawing import Drawing
from synthgen.drawn.split import write_split
from synthgen.images import write_image

SOURCE_SEED = 3_100_000
DOMAINS = streets.DOMAINS
ADVERSE = ("night", "fog", "rain", "snow")


class Plan(Protocol):
    """What of a plan is asked for here."""

    @property
    def place(self) -> Path: ...
    @property
    def scenes(self) -> int: ...
    @property
    def windows(self) -> int: ...


def day(plan: Plan) -> Path:
    """The labelled source."""
    return whole(
        plan.place / "data" / "day", lambda out: write_split(out, "streets", plan.scenes, SOURCE_SEED, domain="day")
    )


def generated(plan: Plan) -> Path:
    """The dataset of `synthgen run flexseg-mini` on the day scenes."""
    sets = (
        f"prompts.source.folder={day(plan)}",
        f"prompts.source.windows.count={plan.windows}",
        "prompts.source.domains=[at night, in fog, in rain, in snow]",
    )
    return dataset_of("flexseg-mini", plan.place / "runs" / "flexseg", sets)


def weather(plan: Plan, warp_px: float) -> Path:
    """The first day scenes drawn in the four adverse weathers, warped under masks that stay."""

    def pictures() -> Iterator[tuple[str, Drawing]]:
        for seed in range(SOURCE_SEED, SOURCE_SEED + plan.windows):
            for domain in ADVERSE:
                drawing = streets.draw(seed, domain=domain)
                image = warped_image(drawing.image, warp_px, seed) if warp_px else drawing.image
                yield f"{seed}_{domain}", dataclasses.replace(drawing, image=image)

    return whole(plan.place / "data" / f"weather-warp{warp_px:g}", lambda out: write_labelled(out, pictures()))


def warped_image(image: np.ndarray, rms_px: float, seed: int) -> np.ndarray:
    """(H, W, 3) uint8 moved by a smooth random field of that root mean square length, bilinear, edges repeated."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    height, width = image.shape[:2]
    noise = np.random.default_rng((seed, 77)).standard_normal((2, height, width))
    field = gaussian_filter(noise, (0, height / 8, height / 8), mode="nearest")
    field *= rms_px / np.sqrt((field**2).sum(axis=0).mean())
    places = np.indices((height, width)) + field
    moved = [map_coordinates(image[..., c].astype(np.float32), places, order=1, mode="nearest") for c in range(3)]
    return np.clip(np.rint(np.stack(moved, axis=-1)), 0, 255).astype(np.uint8)


def test(place: Path, first_seed: int, layouts: int) -> Path:
    """Held-out layouts, each in five weathers, with domains.txt."""
    named = {
        f"{seed}_{domain}": (seed, domain) for seed in range(first_seed, first_seed + layouts) for domain in DOMAINS
    }

    def make(out: Path) -> None:
        write_labelled(out, ((stem, streets.draw(seed, domain=domain)) for stem, (seed, domain) in named.items()))
        lines = (f"{stem}\t{domain}\n" for stem, (_, domain) in named.items())
        (out / "domains.txt").write_text("".join(lines), encoding="utf-8")

    return whole(place / "data" / f"test-{first_seed}", make)


def darkened(place: Path, day: Path) -> Path:
    """Photographs as at dusk: gamma 1.5 to 2.5, less red, less light."""

    def make(out: Path) -> None:
        shutil.copytree(day, out)
        for number, path in enumerate(sorted((out / "images").iterdir())):
            rng = np.random.default_rng(number)
            light = (read_image(path) / 255.0) ** rng.uniform(1.5, 2.5) * rng.uniform(0.6, 0.9)
            light *= (rng.uniform(0.8, 1.0), rng.uniform(0.85, 1.0), 1.0)
            write_image(np.rint(light * 255).astype(np.uint8), path)

    return whole(place / "data" / f"{day.name}-dark", make)
