"""COCO's shapes: polygons and run lengths, checked and drawn as masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from segkit.errors import InputError
from segkit.printable import excerpt

Polygons = tuple[np.ndarray, ...]
"""Each (N, 2) float64 of x, y in pixels."""
_MAX_SHIFT = 60  # a run of more bits fits no image


def shape_of(segmentation: Any, size: tuple[int, int]) -> tuple[Polygons | np.ndarray, int]:
    """A checked `segmentation`, polygons or run lengths (N,) int64 that begin with zeros, and how many polygons of
    fewer than three points were left out: they have no area, and tools write them after a single click.

    Takes polygons [[x0, y0, x1, y1 ...], ...], one that is not nested in a list, and {"size", "counts"} with counts as
    numbers or as COCO's string. Raises InputError that says what is wrong, without a place.
    """
    if isinstance(segmentation, dict):
        return _runs(segmentation, size), 0
    if not isinstance(segmentation, list):
        raise InputError(f"segmentation {excerpt(segmentation)} is no list of polygons and no run lengths")
    flat = bool(segmentation) and not any(isinstance(part, list) for part in segmentation)
    polygons = [_points(polygon) for polygon in ([segmentation] if flat else segmentation)]
    whole = tuple(points for points in polygons if len(points) >= 3)
    return whole, len(polygons) - len(whole)


def has_shape(segmentation: Any) -> bool:
    """Whether an annotation's `segmentation` says anything: detection sets leave it out, or write [] or [[]]."""
    return segmentation is not None and segmentation not in ([], {}, [[]])


def box_of(bbox: Any) -> Polygons:
    """The rectangle of an annotation's `bbox` [x, y, width, height] in pixels.

    Raises InputError, without a place, for what is no box.
    """
    try:
        numbers = np.asarray(bbox, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.empty(0)
    if numbers.shape != (4,) or not np.isfinite(numbers).all() or (numbers[2:] < 0).any():
        raise InputError(f"has no segmentation, and bbox {excerpt(bbox)} is no [x, y, width, height] either")
    x, y, width, height = np.clip(numbers, -1e9, 1e9)
    return (np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]]),)


def region(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool of a `segmentation`. Raises InputError as `shape_of` does, and for a polygon without area."""
    shape, num_flat = shape_of(segmentation, size)
    if num_flat:
        raise InputError("a polygon of fewer than three points is no area")
    return drawn(shape, size)


def runs_of(segmentation: Any, size: tuple[int, int], where: object) -> np.ndarray:
    """(N,) int64 of a `segmentation` that must be run lengths. Raises InputError naming `where`."""
    if not isinstance(segmentation, dict):
        raise InputError(f"{where}: {excerpt(segmentation)} must be run lengths")
    try:
        return _runs(segmentation, size)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def drawn(shape: Polygons | np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool of what `shape_of` gave."""
    if isinstance(shape, np.ndarray):
        return np.repeat(np.arange(len(shape)) % 2 == 1, shape).reshape(size, order="F")
    mask = np.zeros(size, dtype=bool)
    for points in shape:
        mask |= inside(points, size)
    return mask


def run_lengths_of(mask: np.ndarray) -> np.ndarray:
    """(N,) int64 of an (H, W) bool mask, column by column, the first of zeros: as `drawn` takes them."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], changes, [mask.size]]))


def inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: pixels whose centre lies in the polygon (N, 2) of x, y, even-odd.

    Pixel (0, 0) covers 0..1, as COCO has it.
    """
    height, width = size
    crossings = np.zeros((height, width + 1), dtype=np.int32)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        rows = np.arange(max(0, int(np.ceil(y0 - 0.5))), min(height, int(np.ceil(y1 - 0.5))))
        if len(rows):
            x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            crossings[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)] += 1
    return (np.cumsum(crossings, axis=1)[:, :width] % 2).astype(bool)


def run_lengths(text: str) -> list[int]:
    """The numbers of COCO's compressed string: five bits a character from 48 up, the sixth says that more follow, and
    from the third number on each is the difference to the one before the last. Raises InputError for other text."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > _MAX_SHIFT:
            raise InputError(f"run lengths {excerpt(text)} are not COCO's string")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:  # negative
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs


def _points(polygon: Any) -> np.ndarray:
    """(N, 2) float64 of [x0, y0, x1, y1 ...]."""
    try:
        numbers = np.asarray(polygon, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"polygon {excerpt(polygon)} has values that are no numbers") from error
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise InputError(f"polygon {excerpt(polygon)} must be a list of finite numbers")
    if len(numbers) % 2:
        raise InputError(f"polygon of {len(numbers)} numbers: x and y come in pairs")
    # what lies far outside is clipped anyway, and pixel numbers must fit an integer
    return np.clip(numbers.reshape(-1, 2), -1e9, 1e9)


def _runs(segmentation: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    counts, stored = segmentation.get("counts"), segmentation.get("size")
    if isinstance(counts, str):
        counts = run_lengths(counts)
    if not isinstance(counts, list) or not isinstance(stored, list):
        raise InputError(f'run lengths {excerpt(segmentation)} must be {{"size": [height, width], "counts": ...}}')
    if stored != list(size):
        raise InputError(f"run lengths of size {excerpt(stored)} do not fit an image of {size[0]} x {size[1]} px")
    if any(type(count) is not int or not 0 <= count <= size[0] * size[1] for count in counts):
        raise InputError(f"run lengths {excerpt(counts)} must be whole numbers of pixels")
    if sum(counts) != size[0] * size[1]:
        raise InputError(f"run lengths of {sum(counts)} px do not fit an image of {size[0]} x {size[1]} px")
    return np.array(counts, dtype=np.int64)
