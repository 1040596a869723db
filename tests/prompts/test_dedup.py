"""Greedy near-duplicate removal against the plain double loop."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from doubles.double_loop import greedy_by_hand
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.prompts import dedup
from synthgen.prompts.dedup import GreedyBank, greedy_dedup
from synthgen.similarity import greedy


def by_hand(vectors: np.ndarray, lambda_div: float) -> tuple[list[bool], list[int], list[float]]:
    exact = vectors.astype(np.float64)
    return greedy_by_hand(exact / np.linalg.norm(exact, axis=1, keepdims=True), lambda_div)


@st.composite
def small_banks(draw: st.DrawFn) -> tuple[np.ndarray, float]:
    # Small whole numbers make equal and opposite directions, ties and cosines that hit lambda exactly.
    dim = draw(st.integers(1, 4))
    row = st.lists(st.integers(-2, 2), min_size=dim, max_size=dim).filter(any)
    rows = draw(st.lists(row, min_size=1, max_size=24))
    return np.array(rows, dtype=np.float32), draw(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 0.6, 0.8, 0.9, 0.999]))


@settings(deadline=None, max_examples=60)
@given(
    small_banks(), st.lists(st.integers(0, 24), max_size=4), st.integers(1, 5), st.integers(1, 7), st.integers(1, 12)
)
def test_same_as_the_double_loop_however_it_is_cut(
    case: tuple[np.ndarray, float], cuts: list[int], rows: int, work: int, at_once: int
) -> None:
    vectors, lambda_div = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(greedy, "ROWS", rows)
        patch.setattr(greedy, "WORK_ELEMENTS", work)
        bank = GreedyBank(vectors.shape[1], lambda_div, rows_at_once=at_once)
        edges = [0, *sorted(min(cut, len(vectors)) for cut in cuts), len(vectors)]
        parts = [bank.offer(vectors[a:b]) for a, b in itertools.pairwise(edges)]
    accepted, nearest, similarity = by_hand(vectors, lambda_div)
    assert np.concatenate([p.accepted for p in parts]).tolist() == accepted
    assert np.concatenate([p.nearest for p in parts]).tolist() == nearest
    np.testing.assert_allclose(np.concatenate([p.similarity for p in parts]), similarity, atol=1.1e-6)
    assert bank.num_judged == len(vectors)
    assert bank.num_accepted == sum(accepted)


@settings(deadline=None, max_examples=60)
@given(small_banks())
def test_what_greedy_means(bank: tuple[np.ndarray, float]) -> None:
    vectors, lambda_div = bank
    found = greedy_dedup(vectors, lambda_div)
    unit = dedup.normalised(vectors)
    cosines = np.round(unit @ unit.T, 6)
    kept = np.flatnonzero(found.accepted)
    assert found.accepted[0]
    for a, i in enumerate(kept):
        assert (cosines[i, kept[:a]] < lambda_div).all(), "two accepted ones are too close"
    for i in np.flatnonzero(~found.accepted):
        j = found.nearest[i]
        assert found.accepted[j] and j < i, "a refused one has an accepted neighbour before it"
        assert cosines[i, j] >= lambda_div and found.similarity[i] == cosines[i, j]


def test_large_bank_equals_the_double_loop_over_blocks() -> None:
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((40, 24))
    vectors = (centres[rng.integers(40, size=700)] + 0.4 * rng.standard_normal((700, 24))).astype(np.float32)
    found = greedy_dedup(vectors, 0.9)
    accepted, nearest, similarity = by_hand(vectors, 0.9)
    assert 50 < sum(accepted) < 650
    assert found.accepted.tolist() == accepted
    assert found.nearest.tolist() == nearest
    np.testing.assert_allclose(found.similarity, similarity, atol=1.1e-6)


def test_order_decides() -> None:
    a, b, c = np.eye(3)[0], np.array([1.0, 1.0, 0]), np.eye(3)[1]
    assert greedy_dedup(np.stack([a, b, c]), 0.7).accepted.tolist() == [True, False, True]
    assert greedy_dedup(np.stack([b, a, c]), 0.7).accepted.tolist() == [True, False, False]


def test_limit_stops_right_after_the_last_acceptance() -> None:
    vectors = np.repeat(np.eye(4), 2, axis=0)
    bank = GreedyBank(4, 0.5)
    first = bank.offer(vectors, limit=2)
    assert first.accepted.tolist() == [True, False, True]
    assert bank.num_judged == 3
    rest = bank.offer(vectors[3:])
    assert rest.accepted.tolist() == [False, True, False, True, False]
    assert rest.nearest.tolist()[0] == 2
    assert bank.offer(vectors, limit=0).accepted.size == 0


def test_lambda_one_is_off_and_still_measures() -> None:
    found = greedy_dedup(np.ones((3, 5), np.float32), 1.0)
    assert found.accepted.all()
    assert found.similarity.tolist() == [-1.0, 1.0, 1.0]
    assert found.nearest.tolist() == [-1, 0, 0]


def test_scale_of_a_vector_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((50, 8))
    scales = 10.0 ** rng.integers(-150, 150, size=(50, 1))
    assert greedy_dedup(vectors * scales, 0.4).accepted.tolist() == greedy_dedup(vectors, 0.4).accepted.tolist()


@pytest.mark.parametrize(
    "bad", [np.zeros((1, 3)), np.full((1, 3), np.nan), np.full((1, 3), np.inf), np.ones((1, 2)), np.ones(3)]
)
def test_vectors_without_a_direction_or_of_another_length_are_refused(bad: np.ndarray) -> None:
    bank = GreedyBank(3, 0.5)
    with pytest.raises(ValueError, match="vector"):
        bank.offer(bad)
    assert bank.num_judged == 0


def test_lambda_outside_the_cosines_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lambda_div is a cosine"):
        GreedyBank(3, 1.5)
