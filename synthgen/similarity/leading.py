"""An upper bound of many products from a few leading directions, so that few pairs are computed whole.

For an orthonormal basis V (D, K) and p = V'a, what is left of a is orthogonal to V, so a . b <= p_a . p_b + r_a r_b
with r the length of what is left (Cauchy-Schwarz). Together that is one product of K + 1 numbers in place of D. Text
embeddings have most of their length in few directions, so it rules nearly all pairs out.

The bound holds for any basis, and its float32 errors are within the margin of `margin_of`: which basis it is decides
the cost alone. The answers are those of `search_tiles`, which also takes over where the bound does not pay.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from synthgen.similarity import greedy
from synthgen.similarity.greedy import UNITS, Tile, compare_pairs, compare_tile, margin_of, spans, tile_rows

FIRST_FIT = 2048  # accepted vectors before a basis is tried
REFIT = 4  # and again with so many times more of them
WIDTHS = (16, 32, 64, 128)  # numbers of directions among which a fit chooses
_SAMPLE = 1024  # vectors whose directions are taken
_ROUNDS = 2  # of subspace iteration
_TRIED = 64  # vectors with which the cost of each width is measured
# Costs in numbers of a float32 matrix product, for each pair [measured]: comparing a product with the best, and one
# number of a pair that is computed alone.
_COMPARED = 70.0
_ALONE = 25.0
_SLACK = 1e-9  # of squared lengths in float64: 100 times the error of a basis that is accepted
_ORTHONORMAL = 1e-11  # largest |V'V - 1| (Frobenius) of a basis


@dataclasses.dataclass(frozen=True, slots=True)
class Leading:
    """Directions, and how to see vectors by them."""

    basis: np.ndarray  # (D, K) float64, orthonormal columns

    @property
    def width(self) -> int:
        """K."""
        return int(self.basis.shape[1])

    def coordinates(self, rows: np.ndarray) -> np.ndarray:
        """(N, D) float64 -> (N, K + 1) float32: V'a, and the length of what is left, rounded up.

        The product of two such rows is at least that of the vectors, up to the errors that `margin_of` counts.
        """
        inside = rows @ self.basis
        squares = np.einsum("ij,ij->i", rows, rows)
        left = np.maximum(squares - np.einsum("ij,ij->i", inside, inside), 0) + _SLACK * squares
        return np.concatenate([inside, np.sqrt(left)[:, None]], axis=1).astype(np.float32)


def fitted(vectors: np.ndarray) -> Leading | None:
    """The leading directions of float32 vectors (N, D), as many as make the search cheapest; None if none pays.

    Deterministic: the vectors that are looked at lie at equal distances.
    """
    widths = [width for width in WIDTHS if 4 * width <= vectors.shape[1]]
    if not widths or len(vectors) < 2:
        return None
    basis = _directions(vectors[:: -(-len(vectors) // _SAMPLE)], widths[-1])
    if np.linalg.norm(basis.T @ basis - np.eye(widths[-1])) > _ORTHONORMAL:
        return None
    sample = vectors[:: -(-len(vectors) // (2 * _SAMPLE))]
    tried = np.arange(len(sample))[:: -(-len(sample) // _TRIED)]
    products = sample[tried] @ sample.T
    products[np.arange(len(tried)), tried] = -np.inf
    best = products.max(axis=1, keepdims=True)
    costs = []
    for width in widths:
        seen = Leading(basis[:, :width]).coordinates(sample.astype(np.float64))
        share = float(np.mean(seen[tried] @ seen.T >= best)) - 1 / len(sample)  # but for the vector itself
        costs.append(cost(width, share, vectors.shape[1]))
    cheapest = int(np.argmin(costs))
    if costs[cheapest] > cost_of_all(vectors.shape[1]):
        return None
    return Leading(np.ascontiguousarray(basis[:, : widths[cheapest]]))


def cost(width: int, share: float, dim: int) -> float:
    """Of a pair that is bounded by `width` directions, where a share of them must be computed alone after that."""
    return width + 1 + _COMPARED + share * _ALONE * dim


def cost_of_all(dim: int) -> float:
    """Of a pair if all are computed whole."""
    return dim + _COMPARED


def search_bounded(
    rows: np.ndarray, whole: Tile, seen: np.ndarray, leading: Leading
) -> tuple[np.ndarray, np.ndarray, float]:
    """`search_tiles` over unit vectors, of which `seen` (T, K + 1) are the coordinates; and its cost for each pair."""
    similarity = np.full(len(rows), -UNITS)
    nearest = np.full(len(rows), -1, dtype=np.int64)
    rough, asked = rows.astype(np.float32), leading.coordinates(rows)
    margin = margin_of(rows, 1.0)
    best = np.full(len(rows), -np.inf, dtype=np.float32)
    dim = rows.shape[1]
    spent = 0.0
    waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # (row, place, bound) of pairs not yet computed
    num_waiting = 0
    for part in spans(len(seen), tile_rows(len(rows))):
        bounds = asked @ seen[part].T
        # One product a row raises the bar before the others are held against it.
        likely = bounds.argmax(axis=1)
        np.maximum(best, np.einsum("ij,ij->i", rough, whole.rough[part][likely]), out=best)
        near = bounds >= (best - margin)[:, None]
        count = int(np.count_nonzero(near))
        share = (count + len(rows)) / bounds.size
        if cost(leading.width, share, dim) > cost_of_all(dim):
            compare_tile(rows, rough, whole.part(part), best, margin, similarity, nearest)
            spent += bounds.size * (cost(leading.width, 0, dim) + cost_of_all(dim))
            continue
        spent += bounds.size * cost(leading.width, share, dim)
        row, column = np.nonzero(near)
        waiting.append((row, part.start + column, bounds[row, column]))
        num_waiting += count
        if num_waiting > greedy.WORK_ELEMENTS // 8:
            _settle(rows, rough, whole, waiting, best, margin, similarity, nearest)
            waiting, num_waiting = [], 0
    _settle(rows, rough, whole, waiting, best, margin, similarity, nearest)
    return similarity, nearest, spent / max(1, len(rows) * len(seen))


def _directions(sample: np.ndarray, width: int) -> np.ndarray:
    """(D, width) float64: about the first right singular vectors of a sample (N, D), by subspace iteration."""
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((sample.shape[1], width)))[0]
    for _ in range(_ROUNDS):
        turned = sample.T @ (sample @ basis.astype(np.float32))
        basis = np.linalg.qr(turned.astype(np.float64))[0]
    order = np.linalg.svd((sample @ basis.astype(np.float32)).astype(np.float64), full_matrices=False)[2]
    # singular vectors of fewer vectors than directions are not a whole rotation
    return basis if len(order) < width else np.linalg.qr(basis @ order.T)[0]


def _settle(
    rows: np.ndarray,
    rough: np.ndarray,
    whole: Tile,
    waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    best: np.ndarray,
    margin: np.float32,
    similarity: np.ndarray,
    nearest: np.ndarray,
) -> None:
    """Compute the pairs that wait, as far as they can still be the best; all three of the answer are updated."""
    if not waiting:
        return
    row, place, bound = (np.concatenate(column) for column in zip(*waiting, strict=True))
    row, place = _still_near(row, place, bound, best, margin)
    products = np.empty(len(row), dtype=np.float32)
    for part in spans(len(row), max(1, greedy.WORK_ELEMENTS // rows.shape[1])):
        products[part] = np.einsum("ij,ij->i", rough[row[part]], whole.rough[place[part]])
    np.maximum.at(best, row, products)
    row, place = _still_near(row, place, products, best, margin)
    order = np.lexsort((place, row))
    compare_pairs(rows, whole, row[order], place[order], similarity, nearest)


def _still_near(
    row: np.ndarray, place: np.ndarray, product: np.ndarray, best: np.ndarray, margin: np.float32
) -> tuple[np.ndarray, np.ndarray]:
    near = product >= best[row] - margin
    return row[near], place[near]
