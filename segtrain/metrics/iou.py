"""Intersection over union. The one convention of the project for absent classes and unlabelled pixels:

- A pixel counts if its true id is one of the classes; 254 and 255 are none. What is predicted elsewhere is left alone.
- Pixels are summed over all images before dividing.
- The mean is over the classes that occur in ground truth or prediction, among the pixels that count. So a class that is
  only hallucinated pulls the mean down, and one that nobody mentions does not.
- A prediction that is none of the classes (255, for example) is a miss of the true class, and no class's false alarm.
- Where the truth shows nothing but the background there is no mean: a perfect prediction would be 1 of one class, and
  one false pixel half of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

CONVENTION = "mIoU over classes present in ground truth or prediction; pixels with id 254 or 255 excluded"


class ConfusionMatrix:
    """Pixels by true and predicted class, gathered mask by mask; memory does not grow with their number."""

    def __init__(self, ids: Sequence[int], background: int | None = None) -> None:
        """`ids` of the classes, 0..253, and which of them is the background."""
        self.ids, self._background = tuple(ids), background
        self._position = np.full(256, len(self.ids), dtype=np.int64)  # all other ids come after the classes
        self._position[list(self.ids)] = np.arange(len(self.ids))
        self.counts = np.zeros((len(self.ids), len(self.ids) + 1), dtype=np.int64)
        """Rows are true classes, columns predicted ones; the last column is a prediction that is no class."""

    def add(self, prediction: np.ndarray, truth: np.ndarray) -> None:
        """Two (H, W) uint8 masks of ids. Raises ValueError if their shapes differ."""
        if prediction.shape != truth.shape:
            raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} are not of one shape")
        size = len(self.ids) + 1
        cells = self._position[truth].ravel() * size + self._position[prediction].ravel()
        self.counts += np.bincount(cells, minlength=size * size).reshape(size, size)[:-1]

    @property
    def pixels(self) -> dict[int, int]:
        """Pixels of each class in the ground truth."""
        return dict(zip(self.ids, self.counts.sum(axis=1).tolist(), strict=True))

    @property
    def iou(self) -> dict[int, float | None]:
        """In 0..1, by id; None for a class that occurs neither in ground truth nor in prediction."""
        hits = np.diagonal(self.counts)
        union = self.counts.sum(axis=1) + self.counts[:, :-1].sum(axis=0) - hits
        return {
            class_id: float(hit / either) if either else None
            for class_id, hit, either in zip(self.ids, hits.tolist(), union.tolist(), strict=True)
        }

    @property
    def shows_foreground(self) -> bool:
        """Whether a class other than the background has a pixel in the ground truth."""
        return any(count for class_id, count in self.pixels.items() if class_id != self._background)

    def mean_iou(self, without: Collection[int] = ()) -> float | None:
        """In 0..1; `without` are ids to leave out of the mean. None if no class is left that occurs, or if the truth
        shows no foreground."""
        if not self.shows_foreground:
            return None
        values = [value for class_id, value in self.iou.items() if value is not None and class_id not in without]
        return float(np.mean(values)) if values else None

    @property
    def pixel_accuracy(self) -> float | None:
        """Share of the pixels that count whose prediction is right; None if none counts."""
        total = int(self.counts.sum())
        return int(np.diagonal(self.counts).sum()) / total if total else None


def mean_iou(predictions: Iterable[np.ndarray], truths: Iterable[np.ndarray], ids: Sequence[int]) -> float | None:
    """Of (H, W) uint8 masks of ids, in 0..1. None if no pixel of the truth has one of the ids."""
    matrix = ConfusionMatrix(ids)
    for prediction, truth in zip(predictions, truths, strict=True):
        matrix.add(prediction, truth)
    return matrix.mean_iou()
