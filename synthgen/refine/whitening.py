"""Features in which every direction counts by how well it tells classes apart: whitening within classes [ours].

A cosine to the mean look of a class gives every direction of the features the same say. Many of them vary as much
inside a class as between classes: light, texture, the place in the image. Here

    f'(p) = L^-1 (f(p) - c) / |...|,    L L^T = (1 - a) S + a tr(S) / D I

with S the scatter of the support set's features about the means of their classes, D its width, `a` the shrinkage, and c
the mean of the class means. All that follows (prototypes, APF, APR, margins) is what it was, in these features; the
nearest prototype becomes close to Fisher's linear discriminant. Known from speaker recognition as within-class
covariance normalisation (Hatch, Kajarekar, Stolcke, Interspeech 2006), from few-shot classification as the Mahalanobis
distance of Simple CNAPS (Bateni et al., CVPR 2020); Syn4Seg has neither.

It is learnt from the whole support set, also where thresholds are chosen by leaving out its images one by one.
Shrinkage keeps directions that few support images happen not to vary in from counting without bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from synthgen.models import FeatureExtractor
from synthgen.refine.prototypes import class_pixels_per_cell, in_order, normalise

_NO_SPREAD = 1e-12  # of unit vectors: what rounding leaves


class Scatter:
    """Sums over the support set, image by image, of K classes."""

    def __init__(self, class_ids: Sequence[int], background: int | None) -> None:
        self._classes = in_order(class_ids, background)
        self._pixels = np.zeros(len(self._classes))
        self._sums: np.ndarray = np.zeros((len(self._classes), 0))
        self._products: np.ndarray = np.zeros((0, 0))

    def add(self, features: np.ndarray, mask: np.ndarray) -> None:
        """features (h, w, D) with unit cells, mask (H, W) uint8: a cell counts for each class by its pixels there."""
        cells = features.reshape(-1, features.shape[-1]).astype(np.float64)
        if not len(self._products):
            self._sums = np.zeros((len(self._classes), cells.shape[1]))
            self._products = np.zeros((cells.shape[1], cells.shape[1]))
        counts = class_pixels_per_cell(mask, self._classes, features.shape[:2]).astype(np.float64)
        self._pixels += counts.sum(axis=1)
        self._sums += counts @ cells
        self._products += (cells.T * counts.sum(axis=0)) @ cells

    def whitening(self, shrinkage: float) -> tuple[np.ndarray, np.ndarray]:
        """(D,) float64, the centre c, and (D, D) float64, the inverse of L. `shrinkage` in (0, 1].

        Features that do not vary within classes at all (each class one cell) are centred alone; those of a single class
        are not centred, since its mean would be no direction.
        """
        shown = self._pixels > 0
        means = self._sums[shown] / self._pixels[shown, None]
        between = (means.T * self._pixels[shown]) @ means
        within = (self._products - between) / max(1.0, self._pixels.sum())
        width = len(within)
        centre = means.mean(axis=0) if len(means) > 1 else np.zeros(width)
        spread = float(np.trace(within)) / width
        if spread <= _NO_SPREAD:
            return centre, np.eye(width)
        shrunk = (1 - shrinkage) * within + shrinkage * spread * np.eye(width)
        return centre, np.linalg.inv(np.linalg.cholesky((shrunk + shrunk.T) / 2))


class WhitenedFeatures:
    """A feature extractor whose features are whitened, every cell of unit length."""

    def __init__(self, extractor: FeatureExtractor, centre: np.ndarray, inverse: np.ndarray) -> None:
        """`centre` (D,), `inverse` (D, D), as `Scatter.whitening` gives them."""
        self.extractor = extractor
        self._centre = centre.astype(np.float32)
        self._matrix = np.ascontiguousarray(inverse.T, np.float32)
        self.id = f"{extractor.id}, whitened"

    def features(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """(h, w, D) float32 of each image."""
        return [self._whitened(grid) for grid in self.extractor.features(images)]

    def _whitened(self, grid: np.ndarray) -> np.ndarray:
        cells = (grid.reshape(-1, grid.shape[-1]) - self._centre) @ self._matrix
        return normalise(cells).reshape(grid.shape)


def whitened(
    extractor: FeatureExtractor,
    labelled: Iterable[tuple[np.ndarray, np.ndarray]],
    class_ids: Sequence[int],
    background: int | None,
    shrinkage: float,
) -> WhitenedFeatures:
    """Learn the whitening from (image, mask) pairs of the support set, one at a time in memory."""
    scatter = Scatter(class_ids, background)
    for image, mask in labelled:
        scatter.add(extractor.features([image])[0], mask)
    return WhitenedFeatures(extractor, *scatter.whitening(shrinkage))
