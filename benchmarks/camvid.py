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


def photographs(
    folder: Path, chosen: Iterable[Path], size: tuple[int, int] | None = SIZE, labels: Path | None = None
) -> Path:
    """A labelled folder of those photographs at that size (None = their own), made where it lacks. Labels are
    CamVid's, or those in the folder `labels`: a photograph without one is then left out.
    """

    def make(out: Path) -> None:
        for part in ("images", "labels"):
            (out / part).mkdir(parents=True)
        shutil.copy(Path(__file__).parents[1] / "prompts" / "camvid" / "labels.yaml", out)
        for path in chosen:
            mask_path = (labels or path.parents[1] / "labels") / f"{path.stem}.png"
            if labels and not mask_path.is_file():
                continue
            picture = Image.fromarray(read_image(path))
            write_image(_at(picture, size, Image.Resampling.LANCZOS), out / "images" / f"{path.stem}.png")
            mask = read_mask(mask_path)
            mask = np.where(mask == VOID, IGNORE, mask).astype(np.uint8)
            small = _at(Image.fromarray(mask), size, Image.Resampling.NEAREST)
            write_image(small, out / "labels" / f"{path.stem}.png")

    return whole(folder, make)


def _at(picture: Image.Image, size: tuple[int, int] | None, how: Image.Resampling) -> np.ndarray:
    return np.asarray(picture if size is None else picture.resize(size, how))
