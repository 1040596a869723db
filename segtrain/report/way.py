"""The pictures that a method drew on the way (`--pictures-every`): the first of each kind and the last ones."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from pathlib import Path

from segkit.errors import InputError
from segkit.pictures import read_image
from segtrain.errors import RunError
from segtrain.report.thumbnails import address, smaller

LAST = 3
_MOST_KINDS = 8
_LONGEST_PX = 1_600
_DIGITS = 6  # of a step in the name of its file, at the least


@dataclasses.dataclass(frozen=True, slots=True)
class WayPicture:
    """A picture of a step as a `data:` address."""

    name: str
    step: int
    image: str


def pictures_of(run: Path) -> list[WayPicture]:
    """By kind, then by step; empty if the training drew none. Files of other names are no pictures of a training.

    Raises RunError for a picture that cannot be read.
    """
    steps: defaultdict[str, list[tuple[int, Path]]] = defaultdict(list)
    for path in (run / "pictures").glob("*.png"):
        name, _, digits = path.stem.rpartition("-")
        if name and len(digits) >= _DIGITS and digits.isascii() and digits.isdigit():
            steps[name].append((int(digits), path))
    found = []
    for name in sorted(steps)[:_MOST_KINDS]:
        drawn = sorted(steps[name])
        for step, path in drawn if len(drawn) <= LAST + 1 else [drawn[0], *drawn[-LAST:]]:
            try:
                pixels = read_image(path)
            except InputError as error:
                raise RunError(f"{error}; remove it, the report goes without it") from error
            found.append(WayPicture(name, step, address(smaller(pixels, _LONGEST_PX))))
    return found
