"""Connected regions of a mask, one class each: what Syn4Seg judges and redraws, and what CLOUDS asks SAM about."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Literal

import numpy as np

from segkit.labels import IGNORE

# scipy.ndimage is imported in the functions: planning a run imports this module, and the import takes longer than the
# plan.


@dataclasses.dataclass(frozen=True, slots=True)
class Components:
    """Connected components of a mask. Component n (from 1) is `index == n`; its row in the arrays is n - 1."""

    index: np.ndarray  # (H, W) int32, 0 = belongs to none
    class_ids: np.ndarray  # (N,) int64
    areas_px: np.ndarray  # (N,) int64
    boxes: np.ndarray  # (N, 4) int64 XYXY, tight; x1 and y1 are exclusive edges

    def __len__(self) -> int:
        return len(self.class_ids)


def connected_components(
    mask: np.ndarray, exclude: Collection[int] = (), connectivity: Literal[4, 8] = 8
) -> Components:
    """Components of every class of a mask (H, W) uint8 (Syn4Seg: APE, step 1; SABR, step 1; CLOUDS, with 4).

    Pixels of 255 and of the classes in `exclude` belong to none. Ordered by class id, then by first pixel in reading
    order.
    """
    from scipy import ndimage

    structure = ndimage.generate_binary_structure(2, 1 if connectivity == 4 else 2)
    index = np.zeros(mask.shape, np.int32)
    class_ids: list[int] = []
    boxes: list[tuple[int, int, int, int]] = []
    for class_id in np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist():
        if class_id == IGNORE or class_id in exclude:
            continue
        members = mask == class_id
        labelled, count = ndimage.label(members, structure=structure)
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
    """Only components of at least `min_region_px` pixels (the area filter of APF, of SABR's boxes, of CLOUDS)."""
    return select(components, components.areas_px >= min_region_px)
