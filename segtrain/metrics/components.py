"""How well an uncertainty finds whole objects: sIoU, PPV and F1 of connected components (SegmentMeIfYouCan, Chan et
al., NeurIPS datasets and benchmarks 2021, section 3.2).

Pixels at a threshold or above fall into segments, unknown pixels (254) into objects, both 8-connected; void pixels
(255) are in neither. sIoU of an object is the IoU with the union of all segments that touch it, without those pixels of
them that lie in other objects; PPV of a segment is its share of unknown pixels. At a threshold t an object is found if
its sIoU is at least t, a segment is false if its PPV is below t. F1 is the mean over t = 0.25, 0.30, ... 0.75.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION

THRESHOLDS = np.linspace(0.25, 0.75, 11)
CONVENTION = "8-connected, at the pixel threshold of greatest F1, means over all objects and segments of all images"
_EIGHT = np.ones((3, 3), dtype=int)


@dataclasses.dataclass(frozen=True, slots=True)
class ComponentScores:
    """`siou`, `ppv` and `f1` in 0..1, None where there is no object, `ppv` also where there is no segment. The sizes
    are those below which a segment is dropped, and an object void."""

    siou: float | None
    ppv: float | None
    f1: float | None
    objects: int
    segments: int
    threshold: float
    min_segment_px: int
    min_object_px: int


class Components:
    """Gathers objects and segments picture by picture."""

    def __init__(self, threshold: float, min_segment_px: int = 0, min_object_px: int = 0) -> None:
        """SMIYC's sizes are 500 and 100 px for its anomaly track, 50 and 10 px for its obstacle track [code]."""
        self._threshold, self._min_segment_px, self._min_object_px = threshold, min_segment_px, min_object_px
        self._sious: list[float] = []
        self._ppvs: list[float] = []

    def add(self, uncertainty: np.ndarray, truth: np.ndarray) -> None:
        """(H, W) float, high = unknown, and (H, W) uint8 ids."""
        inside = truth != IGNORE
        objects, num_objects = ndimage.label(truth == OUT_OF_DISTRIBUTION, _EIGHT)
        segments, num_segments = ndimage.label((uncertainty >= self._threshold) & inside, _EIGHT)
        small = np.flatnonzero(np.bincount(segments.ravel(), minlength=num_segments + 1) < self._min_segment_px)
        segments[np.isin(segments, small)] = 0
        tiny = np.flatnonzero(np.bincount(objects.ravel(), minlength=num_objects + 1) < self._min_object_px)
        void = np.isin(objects, tiny[tiny > 0])
        objects[void] = segments[void] = 0
        shared = np.zeros((num_objects + 1, num_segments + 1), dtype=np.int64)
        np.add.at(shared, (objects.ravel(), segments.ravel()), 1)
        object_px, segment_px = shared.sum(axis=1), shared.sum(axis=0)
        in_objects = shared[1:].sum(axis=0)
        for number in np.flatnonzero(object_px[1:]) + 1:
            touching = np.flatnonzero(shared[number, 1:]) + 1
            both = shared[number, touching].sum()
            elsewhere = (segment_px - in_objects)[touching].sum()  # of these segments, outside all objects
            self._sious.append(float(both / (object_px[number] + elsewhere)))
        occupied = np.flatnonzero(segment_px[1:]) + 1
        self._ppvs += (in_objects[occupied] / segment_px[occupied]).tolist()

    def scores(self) -> ComponentScores:
        """Of all that was added."""
        sious, ppvs = np.array(self._sious), np.array(self._ppvs)
        f1s = []
        for threshold in THRESHOLDS - 1e-12:  # 0.7 of a linspace lies above 0.7
            found = np.count_nonzero(sious >= threshold)
            wrong = len(sious) - found + np.count_nonzero(ppvs < threshold)
            f1s.append(2 * found / (2 * found + wrong) if found + wrong else None)
        return ComponentScores(
            float(sious.mean()) if len(sious) else None,
            float(ppvs.mean()) if len(ppvs) and len(sious) else None,
            None if None in f1s or not len(sious) else float(np.mean([value for value in f1s if value is not None])),
            len(sious),
            len(ppvs),
            self._threshold,
            self._min_segment_px,
            self._min_object_px,
        )
