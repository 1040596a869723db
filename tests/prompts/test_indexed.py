"""The index: exact until something lies in cells, then one-sided errors only."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from synthgen.prompts.dedup import GreedyBank, Verdicts, greedy_dedup, normalised
from synthgen.prompts.indexed import Cells, IndexedBank, k_means


def clustered(count: int, dim: int = 16, centres: int = 60, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    middle = rng.standard_normal((centres, dim))
    return (middle[rng.integers(centres, size=count)] + 0.5 * rng.standard_normal((count, dim))).astype(np.float32)


def joined(parts: list[Verdicts]) -> tuple[list[bool], list[int], list[float]]:
    return tuple(
        np.concatenate([getattr(p, name) for p in parts]).tolist() for name in ("accepted", "nearest", "similarity")
    )  # type: ignore[return-value]


def test_the_exact_answer_until_the_first_flush() -> None:
    vectors = clustered(800)
    exact = greedy_dedup(vectors, 0.9)
    found = IndexedBank(16, 0.9).offer(vectors)
    assert joined([found]) == joined([exact])


def test_the_exact_answer_when_every_cell_is_probed() -> None:
    vectors = clustered(1500)
    exact = greedy_dedup(vectors, 0.9)
    bank = IndexedBank(16, 0.9, flush=50, probes=10_000)
    found = bank.offer(vectors)
    assert int(exact.accepted.sum()) > 200
    assert found.accepted.tolist() == exact.accepted.tolist()
    assert found.similarity.tolist() == exact.similarity.tolist()
    assert (bank.num_judged, bank.num_accepted) == (1500, int(exact.accepted.sum()))


def test_few_probes_accept_too_much_and_never_refuse_without_a_neighbour() -> None:
    vectors = clustered(3000, centres=200)
    unit = normalised(vectors)
    found = IndexedBank(16, 0.9, flush=64, probes=3).offer(vectors)
    exact = greedy_dedup(vectors, 0.9)
    for i in np.flatnonzero(~found.accepted):
        j = int(found.nearest[i])
        assert found.accepted[j] and j < i
        assert found.similarity[i] == pytest.approx(unit[i] @ unit[j], abs=1e-6)
        assert found.similarity[i] >= 0.9
    refused = ~exact.accepted
    assert 0.1 < refused.mean() < 0.9
    assert (refused & ~found.accepted).sum() / refused.sum() > 0.9, (
        "most near-duplicates are found with 3 of many cells"
    )


@pytest.mark.parametrize("cuts", [(1, 2, 3), (700,), (50, 51, 399, 1200)])
def test_the_cut_into_blocks_changes_nothing(cuts: tuple[int, ...]) -> None:
    vectors = clustered(1500)
    whole = IndexedBank(16, 0.9, flush=40, probes=2).offer(vectors)
    bank = IndexedBank(16, 0.9, flush=40, probes=2)
    parts = [bank.offer(vectors[a:b]) for a, b in itertools.pairwise([0, *cuts, len(vectors)])]
    assert joined(parts) == joined([whole])


def test_limit_stops_right_after_the_last_acceptance_across_flushes() -> None:
    vectors = clustered(600)
    whole = IndexedBank(16, 0.9, flush=30, probes=4).offer(vectors)
    bank = IndexedBank(16, 0.9, flush=30, probes=4)
    first = bank.offer(vectors, limit=75)
    assert int(first.accepted.sum()) == 75
    assert first.accepted[-1]
    rest = bank.offer(vectors[len(first.accepted) :])
    assert joined([first, rest]) == joined([whole])


def test_vectors_without_a_direction_are_refused_before_anything_is_judged() -> None:
    bank: GreedyBank = IndexedBank(3, 0.5)
    with pytest.raises(ValueError, match="no direction"):
        bank.offer(np.array([[1.0, 0, 0], [0, 0, 0]]))
    with pytest.raises(ValueError, match="length 3, not 2"):
        bank.offer(np.ones((1, 2)))
    assert bank.num_judged == 0


def test_cells_find_the_best_of_what_they_hold() -> None:
    vectors = normalised(clustered(900))
    high = vectors.astype(np.float32)
    cells = Cells(16, probes=1000)
    for part in np.array_split(np.arange(900), 4):
        cells.add(high[part], (vectors[part] - high[part]).astype(np.float32), part)
    rows = normalised(clustered(50, seed=2))
    similarity, nearest = cells.search(rows)
    assert nearest.tolist() == (rows @ vectors.T).argmax(axis=1).tolist()
    np.testing.assert_allclose(similarity / 1e6, (rows @ vectors.T).max(axis=1), atol=1e-6)


def test_k_means_centres_are_directions_and_nearer_than_random_ones() -> None:
    vectors = normalised(clustered(2000, centres=20)).astype(np.float32)
    centres = k_means(vectors, 20)
    assert centres.shape == (20, 16)
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-5)
    assert (vectors @ centres.T).max(axis=1).mean() > (vectors @ vectors[:20].T).max(axis=1).mean()
    assert len(k_means(vectors[:5], 20)) == 5
