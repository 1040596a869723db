"""The greedy search over its stores: near ties at a real width, equal answers of both, bounded work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synthgen.similarity import greedy
from synthgen.similarity.greedy import UNITS, Greedy, Store, Verdicts, tile_rows
from synthgen.similarity.memory import MemoryStore
from synthgen.similarity.spool import SpoolStore

WIDTH = 384


def near_ties(count: int, seed: int) -> np.ndarray:
    """Unit vectors (count, WIDTH) whose cosines with one another are 0.5 to about 1e-7: less than float32 can tell."""
    rng = np.random.default_rng(seed)
    own = np.linalg.qr(rng.standard_normal((WIDTH, count + 1)))[0].T
    vectors = np.sqrt(0.5) * own[0] + np.sqrt(0.5) * own[1:] + 3e-8 * rng.standard_normal((count, WIDTH))
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def by_hand(vectors: np.ndarray) -> tuple[list[int], list[float]]:
    """(nearest, similarity) where everything is accepted: the earliest of those whose rounded product is highest."""
    nearest, similarity = [-1], [-1.0]
    for n in range(1, len(vectors)):
        products = [round(float(vectors[n] @ vectors[m]), 6) for m in range(n)]
        nearest.append(int(np.argmax(products)))
        similarity.append(max(products))
    return nearest, similarity


def verdicts(store: Store, vectors: np.ndarray, cut: int) -> Verdicts:
    search = Greedy(store)
    return greedy.joined([search.offer(vectors[n : n + cut], lambda *_: True) for n in range(0, len(vectors), cut)])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cut", [1, 37, 200])
def test_the_earliest_of_near_ties_is_the_nearest(seed: int, cut: int, tmp_path: Path) -> None:
    vectors = near_ties(200, seed)
    nearest, similarity = by_hand(vectors)
    assert len(set(similarity[1:])) < 5, "the rounded products are meant to be nearly all equal"
    with SpoolStore(WIDTH, np.dtype(np.float64), tmp_path) as spooled:
        for store in (MemoryStore(WIDTH), spooled):
            found = verdicts(store, vectors, cut)
            assert found.nearest.tolist() == nearest
            np.testing.assert_array_equal(found.similarity, similarity)


def test_both_stores_give_the_same_however_far_they_spill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((30, 12))
    vectors = centres[rng.integers(30, size=500)] + 0.3 * rng.standard_normal((500, 12))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def judged(store: Store, at_once: int) -> Verdicts:
        return Greedy(store, at_once).offer(vectors, lambda _, cosine, first: first or cosine < 0.9)

    expected = judged(MemoryStore(12), 256)
    assert 100 < expected.accepted.sum() < 450
    monkeypatch.setattr("synthgen.similarity.spool.IN_MEMORY", 100)
    for work, at_once in ((1 << 20, 500), (64, 7), (1000, 100)):
        monkeypatch.setattr(greedy, "WORK_ELEMENTS", work)
        with SpoolStore(12, np.dtype(np.float64), tmp_path) as spooled:
            found = judged(spooled, at_once)
        for name in ("accepted", "nearest", "similarity"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_numbers_go_on_over_calls_and_a_limit_ends_a_call() -> None:
    search = Greedy(MemoryStore(2))
    asked: list[tuple[int, float, bool]] = []

    def accept(number: int, cosine: float, first: bool) -> bool:
        asked.append((number, cosine, first))
        return number != 1

    rows = np.array([[1.0, 0], [1, 0], [0, 1], [-1, 0], [0, 1]])
    assert search.offer(rows, accept, limit=2).accepted.tolist() == [True, False, True]
    assert search.offer(rows[3:], accept).nearest.tolist() == [2, 2]
    assert asked == [(0, -1.0, True), (1, 1.0, False), (2, 0.0, False), (3, 0.0, False), (4, 1.0, False)]
    assert (search.num_judged, search.num_accepted) == (5, 4)


def test_a_product_of_minus_one_is_a_neighbour_and_a_longer_vector_is_cut_to_one() -> None:
    found = Greedy(MemoryStore(1)).offer(np.array([[1.0], [-1.0], [-1.0], [1.1]]), lambda *_: True)
    assert found.nearest.tolist() == [-1, 0, 1, 0] and found.similarity.tolist() == [-1.0, -1.0, 1.0, 1.0]


@pytest.mark.parametrize("rows", [1, 200, 256, 8192])
def test_the_work_of_a_tile_stays_within_its_bound(rows: int) -> None:
    assert rows * tile_rows(rows) <= greedy.WORK_ELEMENTS
    store = MemoryStore(4)
    store.add(np.random.default_rng(0).standard_normal((9000, 4)), np.arange(9000))
    sizes = [len(tile.rough) for tile in store._tiles(tile_rows(rows))]
    assert sum(sizes) == 9000 and max(sizes) * rows <= greedy.WORK_ELEMENTS
    assert UNITS == 1e6
