"""Prototypes: the mean look of a class (Syn4Seg, APE).

mu_k = sum_j sum_p 1[M_j(p) = k] f_j(p) / count, then hat = L2-normalise: masked average pooling over all support images
j. Features have fewer cells than masks have pixels. DIaM shrinks the mask to the feature size by nearest neighbour;
here each pixel adds the feature of the cell that it lies in, so a cell counts by the share of it that the class covers.
At a mini's 16 x 16 cells nearest neighbour would lose thin objects altogether. For the same reason regions and trusted
pixels are pooled in this way, too. Where a class has cells of its own (PURE) in the support set, its prototype is their
mean alone: cells on an edge hold the other side's look as well.

The background is many things: `background_prototypes` > 1 splits it by a deterministic spherical k-means.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from synthgen.models import Prototypes
from synthgen.similarity.kmeans import spherical_kmeans

PURE = 0.95
"""A support cell belongs to a class if the class covers this share of it [ours:

+0.01 to +0.04 IoU of coarse masks on drawn objects].
"""
_MOST_BACKGROUND_CELLS = 2048  # of one support image
_KMEANS_ROUNDS = 30


def pixels_per_cell(index: np.ndarray, count: int, grid: tuple[int, int]) -> np.ndarray:
    """(count, h * w) float32: how many pixels of group n lie in each cell of a grid (h, w).

    `index` (H, W) holds group numbers 0 .. count - 1; other values are in no group. A pixel lies in the cell that holds
    its centre.
    """
    (rows, columns), (height, width) = index.shape, grid
    cell_row = (2 * np.arange(rows) + 1) * height // (2 * rows)
    cell_column = (2 * np.arange(columns) + 1) * width // (2 * columns)
    cell = cell_row[:, None] * width + cell_column[None, :]
    inside = (index >= 0) & (index < count)
    flat = index[inside].astype(np.int64) * (height * width) + cell[inside]
    return np.bincount(flat, minlength=count * height * width).reshape(count, height * width).astype(np.float32)


def class_pixels_per_cell(mask: np.ndarray, classes: Sequence[int], grid: tuple[int, int]) -> np.ndarray:
    """(len(classes), h * w) float32: how many pixels of each class of a mask (H, W) uint8 lie in each cell."""
    group = np.full(256, -1, np.int16)
    group[classes] = np.arange(len(classes))
    return pixels_per_cell(group[mask], len(classes), grid)


def normalise(vectors: np.ndarray) -> np.ndarray:
    """Rows (..., D) at unit length; a zero row stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def masked_average(features: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    """(count, D) float32: normalised mean feature of each group of pixels; zero for a group without pixels.

    Masked average pooling.

    features (h, w, D); index (H, W) as in `pixels_per_cell`.
    """
    weights = pixels_per_cell(index, count, features.shape[:2])
    return normalise(weights @ features.reshape(-1, features.shape[-1]))


@dataclasses.dataclass(frozen=True, slots=True)
class SupportSums:
    """What one support image adds to the prototypes of K classes, the background last."""

    pure: np.ndarray  # (K, D) float32: sums over pixels in cells that a class has to itself
    every: np.ndarray  # (K, D) float32: sums over all pixels
    cells: np.ndarray  # (n, D) float32, cells of the background alone; n = 0 without a background
    cell_weights: np.ndarray  # (n,) float32, pixels in each of them


def support_sums(
    features: np.ndarray, mask: np.ndarray, class_ids: Sequence[int], background: int | None
) -> SupportSums:
    """The sums of one image: features (h, w, D) with unit cells, mask (H, W) uint8; classes as `support_prototypes`
    takes them. At most 2048 background cells are given.
    """
    flat = features.reshape(-1, features.shape[-1])
    counts = class_pixels_per_cell(mask, in_order(class_ids, background), features.shape[:2])
    whole = pixels_per_cell(np.zeros_like(mask), 1, features.shape[:2])
    pure = np.where(counts >= PURE * whole, counts, 0)
    some = np.zeros(0, np.int64) if background is None else np.flatnonzero(pure[-1])
    some = some[:: max(1, -(-len(some) // _MOST_BACKGROUND_CELLS))]
    return SupportSums(pure @ flat, counts @ flat, flat[some], pure[-1][some])


def support_prototypes(
    images: Iterable[SupportSums], class_ids: Sequence[int], background: int | None, background_prototypes: int
) -> Prototypes:
    """Prototypes of the support set:

    one row a foreground class, then up to `background_prototypes` rows of the background.

    `images` gives `support_sums` of each image once. Classes are taken in the order of `class_ids`; one that has no
    pixel has no row, and at least one must have.
    """
    classes = in_order(class_ids, background)
    pure_sums: Any = 0.0
    all_sums: Any = 0.0
    cells: list[np.ndarray] = []
    cell_weights: list[np.ndarray] = []
    for image in images:
        pure_sums, all_sums = pure_sums + image.pure, all_sums + image.every
        cells.append(image.cells)
        cell_weights.append(image.cell_weights)
    means = normalise(np.where(np.any(pure_sums, axis=-1, keepdims=True), pure_sums, all_sums))
    rows = [(k, vector) for k, vector in zip(classes, means, strict=True) if vector.any()]
    if background_prototypes > 1 and any(len(some) for some in cells):
        centres = background_centres(np.concatenate(cells), np.concatenate(cell_weights), background_prototypes)
        rows = [row for row in rows if row[0] != background] + [(int(classes[-1]), centre) for centre in centres]
    return Prototypes(tuple(k for k, _ in rows), np.stack([vector for _, vector in rows]).astype(np.float32))


def in_order(class_ids: Sequence[int], background: int | None) -> list[int]:
    """The classes that prototypes are made of, the background last."""
    return [k for k in class_ids if k != background] + ([] if background is None else [background])


def background_centres(vectors: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """(up to count, D) unit centres of unit vectors (N, D) with weights (N,) > 0, by spherical k-means; count = 1 gives
    the mean.

    Starts from the vector nearest to the mean and then from the one farthest from all starts so far. Equal vectors give
    fewer centres.
    """
    mean = normalise((weights @ vectors)[None])
    if count == 1:
        return mean
    starts = [int(np.argmax(vectors @ mean[0]))]
    nearest = vectors @ vectors[starts[0]]
    while len(starts) < count and nearest.min() < 1 - 1e-6:
        starts.append(int(np.argmin(nearest)))
        nearest = np.maximum(nearest, vectors @ vectors[starts[-1]])
    return spherical_kmeans(vectors, weights, vectors[starts], _KMEANS_ROUNDS)
