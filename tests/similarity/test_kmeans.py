"""Spherical k-means against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from synthgen.similarity import kmeans
from synthgen.similarity.kmeans import nearest_centre, spherical_kmeans


def unit(rows: np.ndarray) -> np.ndarray:
    length: np.ndarray = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / length


def by_hand(vectors: np.ndarray, weights: np.ndarray, starts: np.ndarray, rounds: int) -> np.ndarray:
    centres = [start.copy() for start in starts]
    for _ in range(rounds):
        owner = [max(range(len(centres)), key=lambda c: (float(v @ centres[c]), -c)) for v in vectors]
        for c in range(len(centres)):
            total = sum((w * v for w, v, o in zip(weights, vectors, owner, strict=True) if o == c), np.zeros(3))
            if np.linalg.norm(total) > 0:
                centres[c] = total / np.linalg.norm(total)
    return np.stack(centres)


@pytest.mark.parametrize("dense", [1 << 24, 1])
def test_it_is_the_plain_loop(dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "_DENSE", dense)
    rng = np.random.default_rng(0)
    vectors, weights = unit(rng.standard_normal((60, 3))), rng.uniform(0.5, 2, 60)
    for rounds in (1, 3, 50):
        found = spherical_kmeans(vectors, weights, vectors[:5], rounds)
        np.testing.assert_allclose(found, by_hand(vectors, weights, vectors[:5], rounds), atol=1e-9)
    np.testing.assert_array_equal(nearest_centre(vectors, vectors[:5]), (vectors @ vectors[:5].T).argmax(axis=1))


def test_a_centre_that_nobody_is_nearest_to_stays() -> None:
    vectors = np.array([[1.0, 0], [1, 0]])
    starts = np.array([[1.0, 0], [0, 1]])
    np.testing.assert_array_equal(spherical_kmeans(vectors, np.ones(2), starts, 5), starts)
