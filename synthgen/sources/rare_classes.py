"""Rare class sampling, and windows of a label map around a pixel of the class that was drawn (DAFormer, DGInStyle).

What trains a generator and what chooses the maps that it renders both cut their windows here.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Iterator, Sequence

import numpy as np

from segkit.labels import LabelSpace
from synthgen.errors import InputError
from synthgen.records import ids_digest
from synthgen.sources.label_maps import LabelMap, Window

MAPS_IN_MEMORY = 16  # of 2 MB each at 1024 x 2048 px
_log = logging.getLogger(__name__)

TRIES = 10  # windows that are tried for one that shows enough of the drawn class [code: DAFormer, DGInStyle]


def class_probabilities(counts: np.ndarray, temperature: float) -> np.ndarray:
    """Rare class sampling: P(c) = softmax((1 - f_c) / T) over the classes that occur, f_c the share of all pixels
    (Rare Class Sampling of DAFormer, Hoyer et al., CVPR 2022). `counts` (pictures, classes); float64 (classes,), 0 for
    absent ones.
    """
    total = counts.sum(axis=0)
    exponent = np.where(total > 0, (1 - total / total.sum()) / temperature, -np.inf)
    weights = np.exp(exponent - exponent.max())
    probabilities: np.ndarray = weights / weights.sum()
    return probabilities


def largest_window(shape: tuple[int, ...], size_px: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the largest window of the aspect of `size_px` (height, width) inside a map of `shape`."""
    scale = min(shape[0] / size_px[0], shape[1] / size_px[1])
    return max(1, round(size_px[0] * scale)), max(1, round(size_px[1] * scale))


def middle_window(shape: tuple[int, ...], size_px: tuple[int, int]) -> Window:
    """The largest window of that aspect, in the middle of the map."""
    height, width = largest_window(shape, size_px)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    return slice(top, top + height), slice(left, left + width)


def window_around(
    rng: np.random.Generator,
    pixel: tuple[int, int],
    shape: tuple[int, ...],
    size_px: tuple[int, int],
    shares: tuple[float, float],
) -> Window:
    """A window that holds the pixel (row, column), anywhere in it, and lies inside a map of `shape`. Its sides are a
    share, drawn from the range `shares`, of those of the largest window of the aspect of `size_px`.
    """
    share = rng.uniform(*shares)
    height, width = (max(1, round(side * share)) for side in largest_window(shape, size_px))
    corners = []
    for at, side, whole in ((pixel[0], height, shape[0]), (pixel[1], width, shape[1])):
        corners.append(int(np.clip(at - int(rng.integers(side)), 0, whole - side)))
    return slice(corners[0], corners[0] + height), slice(corners[1], corners[1] + width)


def window_of_class(
    rng: np.random.Generator,
    of_class: np.ndarray,
    size_px: tuple[int, int],
    shares: tuple[float, float],
    min_share: float,
    tries: int = TRIES,
) -> tuple[Window, bool]:
    """A window around a random pixel of `of_class` (H, W) bool, which has one, drawn again at most `tries` times until
    the class covers `min_share` of it. Gives the last window, and whether it covers enough.
    """
    pixels = np.flatnonzero(of_class)
    for _ in range(tries):
        pixel = divmod(int(rng.choice(pixels)), of_class.shape[1])
        window = window_around(rng, pixel, of_class.shape, size_px, shares)
        if of_class[window].mean() >= min_share:
            return window, True
    return window, False


@dataclasses.dataclass(frozen=True, slots=True)
class Sampling:
    """How windows are chosen."""

    count: int  # windows
    temperature: float  # T of class_probabilities
    min_map_share: float  # a map serves for a class that covers this share of it
    min_share: float  # a window serves for a class that covers this share of it
    shares: tuple[float, float]  # range of a window's sides, as a share of the largest one that fits
    weights: tuple[float, ...] = ()  # by which P(c) is multiplied, in the order of the label space; empty = all 1


def rare_windows(
    maps: Sequence[LabelMap], space: LabelSpace, size_px: tuple[int, int], seed: int, sampling: Sampling
) -> Iterator[tuple[LabelMap, np.ndarray]]:
    """(window, its ids (H, W) uint8): for each a class is drawn by rare class sampling, a map that shows enough of it,
    and a window around a pixel of it (DGInStyle, gen_datasets). Windows have the aspect of `size_px` (height, width).

    Which ones follows from the seed, the window's number and the ids of the maps alone, not from their names. Reads
    every map once, then one for each draw. Raises InputError if no map, or no window, shows enough of any class; fewer
    windows than `count` are a logged warning.
    """
    where = maps[0].path.parent
    counts, sizes, by_content = _census(maps, space)
    serves = (counts > 0) & (counts >= sampling.min_map_share * sizes[:, None])
    probabilities = class_probabilities(counts, sampling.temperature) * serves.any(axis=0) if counts.any() else counts
    if sampling.weights:
        probabilities = probabilities * np.array(sampling.weights)
    if not probabilities.sum() > 0:
        raise InputError(f"{where}: no map shows enough of any class for a window (windows.min_map_share)")
    probabilities /= probabilities.sum()

    @functools.lru_cache(maxsize=MAPS_IN_MEMORY)
    def ids_of(place: int) -> np.ndarray:
        return maps[by_content[place]].ids(space)

    made = 0
    for number in range(sampling.count):
        rng = np.random.default_rng([seed, number])
        for _ in range(TRIES):
            chosen = int(rng.choice(len(probabilities), p=probabilities))
            place = int(rng.choice(np.flatnonzero(serves[:, chosen])))
            of_class = ids_of(place) == space.labels[chosen].id
            window, is_enough = window_of_class(rng, of_class, size_px, sampling.shares, sampling.min_share)
            if is_enough:
                made += 1
                cut = dataclasses.replace(maps[by_content[place]], window=window)
                yield cut, np.ascontiguousarray(ids_of(place)[window])
                break
    if not made:
        raise InputError(f"{where}: no window shows enough of the class that it was cut around (windows.min_share)")
    if made < sampling.count:
        _log.warning("%s: %d windows, not %d: in the others the class covers too little", where, made, sampling.count)


def _census(maps: Sequence[LabelMap], space: LabelSpace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of each class (maps, classes), pixels of each map (maps,), and which of the given maps each row is of:
    rows are in the order of the maps' contents.
    """
    rows = []
    for number, label_map in enumerate(maps):
        ids = label_map.ids(space)
        counts = np.bincount(space.channel_of_id[ids].ravel(), minlength=256)[: len(space.labels)]
        rows.append((ids_digest(ids), number, ids.size, counts))
    rows.sort(key=lambda row: row[:2])
    return np.stack([row[3] for row in rows]), np.array([row[2] for row in rows]), np.array([row[1] for row in rows])
