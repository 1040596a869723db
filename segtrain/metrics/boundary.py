"""Boundary F measure (Csurka et al., What is a good evaluation measure for semantic segmentation?, BMVC 2013).

The boundary of a class in a mask is its pixels that have a right, left, upper or lower neighbour which is not of the
class. Pixels whose truth is unlabelled (no class: 254, 255) do not count: they are no boundary, and they make none of
their neighbours. Nor does the edge of the image.

For one class of one image, precision is the share of the predicted boundary that lies within the tolerance (Euclidean,
in pixels, inclusive) of the true boundary, recall the share of the true one within the tolerance of the predicted one,
F = 2 P R / (P + R). An image's score is the mean over the classes that its truth shows, a set's the mean over images.
Where there is no boundary on either side there is nothing to score: None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.spatial import KDTree

CONVENTION = (
    "boundary F (Csurka et al. 2013): within 0.75 % of the image diagonal, mean over the classes that the truth shows, "
    "then over images"
)
TOLERANCE_FRACTION = 0.0075


def tolerance_px(shape: tuple[int, ...]) -> float:
    """0.75 % of the diagonal of an image (H, W), as in the paper, but a pixel at the least."""
    return max(1.0, TOLERANCE_FRACTION * math.hypot(*shape))


def boundary_f(prediction: np.ndarray, truth: np.ndarray, ids: Sequence[int], tolerance_px: float) -> float | None:
    """Of one image, in 0..1: the mean over those of `ids` that the truth shows.

    Two (H, W) uint8 masks of ids; a true id below 254 is a label even if it is not in `ids`. None if no boundary of
    these classes is there to score.
    """
    labelled = truth < 254
    values = []
    for class_id in ids:
        of_class = truth == class_id
        if of_class.any():
            ours, theirs = (_boundary(mask, labelled) for mask in (prediction == class_id, of_class))
            if len(ours) or len(theirs):
                values.append(_f(ours, theirs, tolerance_px))
    return float(np.mean(values)) if values else None


def mean_of_images(scores: Sequence[float | None]) -> float | None:
    """Over the images that have one; None if none has."""
    values = [score for score in scores if score is not None]
    return float(np.mean(values)) if values else None


def _boundary(mask: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """(N, 2): rows and columns of the boundary pixels of a bool mask (H, W)."""
    inside, outside = mask & labelled, ~mask & labelled
    near = np.zeros_like(mask)
    near[1:] |= outside[:-1]
    near[:-1] |= outside[1:]
    near[:, 1:] |= outside[:, :-1]
    near[:, :-1] |= outside[:, 1:]
    return np.argwhere(inside & near)


def _f(ours: np.ndarray, theirs: np.ndarray, tolerance_px: float) -> float:
    if not len(ours) or not len(theirs):
        return 0.0
    precision = float(np.mean(KDTree(theirs).query(ours)[0] <= tolerance_px))
    recall = float(np.mean(KDTree(ours).query(theirs)[0] <= tolerance_px))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
