"""Cosine maps: how much each pixel looks like each prototype.

A proposer, APR and the confidence map all need cosines at full size. Features (h, w, D) are not upsampled: the cosines
are taken at (h, w) and the (P, h, w) maps are upsampled, which costs P instead of D channels. For unit features the two
differ only by the length that interpolated features lose between unlike cells.
"""

from __future__ import annotations

import functools

import numpy as np

from synthgen.models import Prototypes


def cosine_maps(features: np.ndarray, vectors: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(P, H, W) float32 in [-1, 1]:

    cosine of features (h, w, D) to vectors (P, D), both of unit length, bilinear to `size`.
    """
    height, width, _ = features.shape
    maps = np.tensordot(np.asarray(vectors, np.float32), np.asarray(features, np.float32), axes=(1, 2))
    return resize_bilinear(maps.reshape(-1, height, width), size)


def best_per_class(maps: np.ndarray, ids: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Of maps (P, H, W) whose rows belong to the classes `ids` (P,):

    the unique ids (K,) in order of first appearance, and (K, H, W) maxima.
    """
    unique = tuple(dict.fromkeys(ids))
    owner = np.asarray(ids)
    if len(unique) == len(ids):
        return np.asarray(unique), maps
    return np.asarray(unique), np.stack([maps[owner == k].max(axis=0) for k in unique])


def two_best(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of maps (K, H, W), K >= 1, at each pixel:

    the row of the highest (H, W) uint8, its value, and the next value (-inf where K = 1).

    On a tie the row that comes first. One pass over contiguous planes: several times faster than argmax along the first
    axis.
    """
    best, top = np.zeros(maps.shape[1:], np.uint8), maps[0].copy()
    second = np.full_like(top, -np.inf)
    for row, plane in enumerate(maps[1:], start=1):
        higher = plane > top
        np.maximum(second, np.where(higher, top, plane), out=second)
        np.copyto(best, np.uint8(row), where=higher)
        np.maximum(top, plane, out=top)
    return best, top, second


CONFIDENCE_SCALE = 0.1
"""Cosine margin at which confidence is sigmoid(1) = 0.73 [ours]."""


def confidence_of_margin(margin: np.ndarray) -> np.ndarray:
    """sigmoid(m / CONFIDENCE_SCALE) in (0, 1) of cosine margins of any shape, infinite ones too; 0.5 is a tie."""
    share: np.ndarray = 1 / (1 + np.exp(-np.clip(margin / CONFIDENCE_SCALE, -30, 30)))
    return share


def of_classes(prototypes: Prototypes, candidates: tuple[int, ...]) -> Prototypes:
    """The rows that belong to `candidates`, grouped in the order of `candidates`.

    A candidate without a prototype is left out.
    """
    rows = [row for k in dict.fromkeys(candidates) for row, owner in enumerate(prototypes.ids) if owner == k]
    return Prototypes(tuple(prototypes.ids[row] for row in rows), prototypes.vectors[rows])


def resize_bilinear(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(..., h, w) -> (..., H, W) float32, bilinear between cell centres, constant beyond the outermost (torch:

    align_corners=False).
    """
    rows, columns = _interpolation(maps.shape[-2], size[0]), _interpolation(maps.shape[-1], size[1])
    return np.asarray(rows @ np.asarray(maps, np.float32) @ columns.T, np.float32)


@functools.lru_cache(maxsize=32)
def _interpolation(source: int, target: int) -> np.ndarray:
    """(target, source) weights of linear interpolation along one axis."""
    position = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, source - 1)
    weights = np.zeros((target, source), np.float32)
    np.add.at(weights, (np.arange(target), low), 1 - (position - low))
    np.add.at(weights, (np.arange(target), high), position - low)
    weights.flags.writeable = False
    return weights
