"""CamVid's photographs as labelled folders at the size of the benchmarks of trainings."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.masks import CAMVID
from benchmarks.trainings import whole
from segkit.labels import IGNORE
from segkit.masks import read_mask
from segkit.pictures import read_image
from synthgen.images import write_image

SIZE = (160, 120)  # width and height
VOID = 11


def at_hand() -> bool:
    """Says so if not."""
    if not CAMVID.is_dir():
        print(f"  not run: no CamVid in {CAMVID}; set SYNTHGEN_CAMVID to the folder that holds train/ and val/")
    return CAMVID.is_dir()


def frames(split: str, *sequences: str) -> list[Path]:
    """The photographs of a published split, in order: of these sequences, or of all of it."""
    every = sorted((CAMVID / split / "images").iterdir())
    return [path for path in every if not sequences or path.name.startswith(sequences)]


def photographs(folder: Path, chosen: Iterable[Path]) -> Path:
    """A labelled folder of those photographs at SIZE, made where it lacks."""

    def make(out: Path) -> None:
        for part in ("images", "labels"):
            (out / part).mkdir(parents=True)
        shutil.copy(Path(__file__).parents[1] / "prompts" / "camvid" / "labels.yaml", out)
        for path in chosen:
            small = Image.fromarray(read_image(path)).resize(SIZE, Image.Resampling.LANCZOS)
            write_image(np.asarray(small), out / "images" / f"{path.stem}.png")
            mask = read_mask(path.parents[1] / "labels" / f"{path.stem}.png")
            mask = np.where(mask == VOID, IGNORE, mask).astype(np.uint8)
            small = Image.fromarray(mask).resize(SIZE, Image.Resampling.NEAREST)
            write_image(np.asarray(small), out / "labels" / f"{path.stem}.png")

    return whole(folder, make)
