"""Regions of a mask: connected components, their boxes, their boundary bands.

Syn4Seg needs them twice: APF judges regions (APE, step 1) and SABR works in a band around their edges (step 1).
Everything here is a pure function over arrays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from segkit.labels import IGNORE

# scipy.ndimage is imported in the functions: planning a run imports this module, and the import takes longer than the
# plan.
_EIGHT = np.ones((3, 3), dtype=bool)


@dataclasses.dataclass(frozen=True, slots=True)
class Components:
    """Connected components of a mask. Component n (from 1) is `index == n`; its row in the arrays is n - 1."""

    index: np.ndarray  # (H, W) int32, 0 = belongs to none
    class_ids: np.ndarray  # (N,) int64
    areas_px: np.ndarray  # (N,) int64
    boxes: np.ndarray  # (N, 4) int64 XYXY, tight; x1 and y1 are exclusive edges

    def __len__(self) -> int:
        return len(self.class_ids)


def connected_components(mask: np.ndarray, exclude: Collection[int] = ()) -> Components:
    """8-connected components of every class of a mask (H, W) uint8 (APE, step 1; SABR, step 1).

    Pixels of 255 and of the classes in `exclude` belong to none. Ordered by class id, then by first pixel in reading
    order.
    """
    from scipy import ndimage

    index = np.zeros(mask.shape, np.int32)
    class_ids: list[int] = []
    boxes: list[tuple[int, int, int, int]] = []
    for class_id in np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist():
        if class_id == IGNORE or class_id in exclude:
            continue
        members = mask == class_id
        labelled, count = ndimage.label(members, structure=_EIGHT)
        np.add(labelled, len(class_ids), out=index, where=members)
        class_ids += [class_id] * count
        boxes += [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labelled)]
    areas = np.bincount(index.ravel(), minlength=len(class_ids) + 1)[1:]
    return Components(index, np.asarray(class_ids, np.int64), areas, np.asarray(boxes, np.int64).reshape(-1, 4))


def select(components: Components, keep: np.ndarray) -> Components:
    """The components for which `keep` (N,) bool holds, renumbered from 1 in the same order."""
    new_number = np.zeros(len(components) + 1, np.int32)
    new_number[1:][keep] = np.arange(1, int(np.count_nonzero(keep)) + 1)
    return Components(
        new_number[components.index], components.class_ids[keep], components.areas_px[keep], components.boxes[keep]
    )


def drop_small(components: Components, min_region_px: int) -> Components:
    """Only components of at least `min_region_px` pixels (the area filter before APF and before SABR's boxes)."""
    return select(components, components.areas_px >= min_region_px)


def band_radius(size: tuple[int, int], band_fraction: float, min_band_px: int) -> int:
    """Radius of SABR's boundary band: max(min_band_px, round(band_fraction * min(H, W)))."""
    return max(min_band_px, round(band_fraction * min(size)))


def edge_of(region: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of a region that have a 4-neighbour outside it. The image border is no edge."""
    from scipy import ndimage

    return region & ~ndimage.binary_erosion(region, border_value=1)


def boundary_band(region: np.ndarray, radius: int) -> np.ndarray:
    """(H, W) bool: dilate(edge, radius), i.e.

    pixels within `radius` (Chebyshev) of the edge of a region, on both sides (SABR, step 1).
    """
    from scipy import ndimage

    return ndimage.maximum_filter(edge_of(region), size=2 * radius + 1, mode="constant", cval=False)


def padded_boxes(boxes: np.ndarray, padding: float, size: tuple[int, int]) -> np.ndarray:
    """(N, 4) float32 XYXY:

    every side moved outwards by `padding` times the box's width or height, clipped to the image (SABR, step 1).
    """
    grown = np.asarray(boxes, np.float32).reshape(-1, 4).copy()
    width, height = grown[:, 2] - grown[:, 0], grown[:, 3] - grown[:, 1]
    grown += padding * np.stack([-width, -height, width, height], axis=1)
    rows, columns = size
    return np.clip(grown, 0, np.asarray([columns, rows, columns, rows], np.float32))


def box_window(box: np.ndarray) -> tuple[slice, slice]:
    """The (rows, columns) of the pixels that a box XYXY touches."""
    x0, y0, x1, y1 = (float(value) for value in box)
    return slice(int(np.floor(y0)), int(np.ceil(y1))), slice(int(np.floor(x0)), int(np.ceil(x1)))
