"""Which images are the shots.

A choice is a function of a seed, the class and, for base images, the epoch: nothing remembers what was drawn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np

from segtrain.data.class_pixels import class_pixels
from segtrain.data.source import Source
from segtrain.errors import DataError

# Tags that keep the random streams of one seed apart.
_NOVEL, _BASE = 3, 4


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A sample: the number of its source, and its row there."""

    source: int
    row: int


@dataclasses.dataclass(frozen=True, slots=True)
class Showing:
    """Which samples show a class well enough to stand for it:

    (samples, 256) bool over the samples of all sources, one source after another.
    """

    places: tuple[Place, ...]
    shows: np.ndarray

    def of(self, class_id: int, without: Collection[Place] = ()) -> list[Place]:
        return [self.places[n] for n in np.flatnonzero(self.shows[:, class_id]) if self.places[n] not in without]


def showing(sources: Sequence[Source], min_share: float) -> Showing:
    """A class must cover `min_share` of the image, and one pixel at the least. Reads every mask once."""
    places, shows = [], []
    for number, source in enumerate(sources):
        pixels = class_pixels(source)
        places += [Place(number, row) for row in range(len(pixels))]
        shows.append((pixels > 0) & (pixels >= min_share * pixels.sum(axis=1, keepdims=True)))
    return Showing(tuple(places), np.concatenate(shows))


def novel_shots(
    candidates: Showing, classes: Sequence[tuple[int, str]], shots: int, seed: int
) -> dict[int, list[Place]]:
    """`shots` images for each (id, name), no image for two classes. A class's order follows from (seed, id).

    Raises DataError naming a class that has too few.
    """
    chosen: dict[int, list[Place]] = {}
    for class_id, name in classes:
        taken = {place for of_class in chosen.values() for place in of_class}
        places = candidates.of(class_id, taken)
        if len(places) < shots:
            raise DataError(
                f"class {name!r} (id {class_id}): {len(places)} images show enough of it, {shots} are to be shots: "
                "lower --shots or --min-shot-share, or add images"
            )
        order = np.random.default_rng((seed, _NOVEL, class_id)).permutation(len(places))[:shots]
        chosen[class_id] = [places[n] for n in order]
    return chosen


def base_shots(candidates: dict[int, list[Place]], shots: int, seed: int, epoch: int) -> list[Place]:
    """`shots` images of each base class for one epoch, in random order. A class with fewer images gives all it has."""
    chosen: list[Place] = []
    for class_id, places in sorted(candidates.items()):
        order = np.random.default_rng((seed, _BASE, epoch, class_id)).permutation(len(places))[:shots]
        chosen += [places[n] for n in order]
    order = np.random.default_rng((seed, _BASE, epoch)).permutation(len(chosen))
    return [chosen[n] for n in order]
