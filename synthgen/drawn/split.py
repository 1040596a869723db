"""Writes a drawn split as a plain labelled folder, which the pipeline then reads as it reads any user's data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from segkit.labels import OUT_OF_DISTRIBUTION
from synthgen.drawn import objects, street_intruders, streets
from synthgen.errors import RecipeError
from synthgen.images import write_image
from synthgen.labels import read_label_space
from synthgen.new_folder import new_folder

LABEL_SPACES = {"objects": "objects", "streets": "cityscapes"}


def write_split(
    out: Path,
    world: str,
    count: int,
    first_seed: int,
    size_px: int = 64,
    class_name: str | None = None,
    *,
    domain: str = "",
    intruders: float = 0.0,
    held_out: bool = False,
    unknown: bool = False,
) -> None:
    """`out/images/*.png`, `out/labels/*.png` (class ids), `out/captions.txt`, `out/labels.yaml`, and for streets
    `out/domains.txt` (`stem<TAB>weather`, what `segtrain eval --by-domain` reads).

    Scene i has seed `first_seed + i`. `domain` is the weather of all streets, `intruders` the share of them with an
    object that no street has: of those for training, or of the `held_out` ones. Their label space is `streets`; with
    `unknown` it stays `cityscapes` and they are 254, as a set that tests for the unknown has them.

    `out` holds everything or, if it is refused or interrupted, nothing. Raises RecipeError for an unknown world or
    domain and for options of intruders without any, StorageError if `out` exists and is not empty: a user's folder is
    never written over.
    """
    if world not in LABEL_SPACES:
        raise RecipeError(f"world {world!r} is not known; there are: {', '.join(LABEL_SPACES)}")
    if world != "streets" and (domain or intruders):
        raise RecipeError(f"world {world!r} has no domains and no intruders; --world streets has them")
    if (held_out or unknown) and not intruders:
        raise RecipeError(
            "--held-out and --unknown say something of the objects of --intruders: give it a share above 0"
        )
    with new_folder(out) as work:
        (work / "images").mkdir()
        (work / "labels").mkdir()
        captions, domains = [], []
        for seed in range(first_seed, first_seed + count):
            if world == "objects":
                drawing = objects.draw(seed, size_px, class_name=class_name)
            else:
                intruder = street_intruders.chosen(seed, intruders, held_out)
                drawing = streets.draw(seed, (size_px, size_px * 3 // 2), domain=domain or None, intruder=intruder)
            stem = f"{world}_{seed:08d}"
            write_image(drawing.image, work / "images" / f"{stem}.png")
            mask = drawing.mask
            if unknown:
                mask = np.where(mask >= len(streets.CLASSES), np.uint8(OUT_OF_DISTRIBUTION), mask)
            write_image(mask, work / "labels" / f"{stem}.png")
            captions.append(f"{stem}\t{drawing.caption}\n")
            domains += [f"{stem}\t{value}\n" for name, value in drawing.attributes if name == "domain"]
        space = read_label_space("streets" if intruders and not unknown else LABEL_SPACES[world])
        (work / "captions.txt").write_text("".join(captions), encoding="utf-8")
        if domains:
            (work / "domains.txt").write_text("".join(domains), encoding="utf-8")
        (work / "labels.yaml").write_text(yaml.safe_dump(space.to_json()), encoding="utf-8")
