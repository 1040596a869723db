"""The bound from leading directions: never below the product, and the same answers as the plain double loop."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from doubles.double_loop import greedy_by_hand
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.similarity import greedy, leading
from synthgen.similarity.greedy import Greedy, Tile, Verdicts, joined, margin_of
from synthgen.similarity.leading import Leading
from synthgen.similarity.memory import MemoryStore


def unit(rows: np.ndarray) -> np.ndarray:
    length: np.ndarray = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / length


def text_like(count: int, dim: int, exponent: float, seed: int) -> np.ndarray:
    """Unit vectors (count, dim) in clusters, of full rank; eigenvalues ~ 1 / k^exponent in random directions."""
    rng = np.random.default_rng(seed)
    scale = np.arange(1, dim + 1) ** (-exponent / 2)
    centres = rng.standard_normal((max(1, count // 6), dim))
    rows = (centres[rng.integers(len(centres), size=count)] + 0.3 * rng.standard_normal((count, dim))) * scale
    return unit(rows @ np.linalg.qr(rng.standard_normal((dim, dim)))[0])


def judged(vectors: np.ndarray, lambda_div: float, cut: int) -> Verdicts:
    search = Greedy(MemoryStore(vectors.shape[1]), cut)
    parts = [vectors[n : n + cut] for n in range(0, len(vectors), cut)]
    return joined([search.offer(part, lambda _, cosine, first: first or cosine < lambda_div) for part in parts])


@st.composite
def banks(draw: st.DrawFn) -> tuple[np.ndarray, float]:
    """Any spectrum, copies among the vectors, and a threshold that may be a cosine of two of them."""
    dim, count = draw(st.integers(1, 64)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    vectors = text_like(count, dim, draw(st.sampled_from([0.0, 0.5, 1.0, 2.0, 6.0])), int(rng.integers(2**32)))
    copies = draw(st.sampled_from([0.0, 0.3, 1.0]))
    vectors = np.where(rng.random((count, 1)) < copies, vectors[rng.integers(count, size=count)], vectors)
    if draw(st.booleans()):
        return vectors, draw(st.sampled_from([-1.0, 0.0, 0.5, 0.9, 0.99, 1.0]))
    a, b = rng.integers(count, size=2)
    return vectors, max(-1.0, min(1.0, round(float(vectors[a] @ vectors[b]), 6)))


@settings(deadline=None, max_examples=80)
@given(banks(), st.integers(1, 13), st.integers(1, 60), st.integers(1, 5))
def test_same_as_the_double_loop_whatever_the_blocks(
    bank: tuple[np.ndarray, float], cut: int, work: int, first: int
) -> None:
    vectors, lambda_div = bank
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leading, "FIRST_FIT", first)
        patch.setattr(leading, "REFIT", 2)
        patch.setattr(leading, "WIDTHS", (1, 2, 5))
        patch.setattr(leading, "cost_of_all", lambda _: np.inf)  # the bound is used wherever a basis can be had
        patch.setattr(greedy, "ROWS", 7)
        patch.setattr(greedy, "WORK_ELEMENTS", work)
        found = judged(vectors, lambda_div, cut)
    accepted, nearest, similarity = greedy_by_hand(vectors, lambda_div)
    assert found.accepted.tolist() == accepted
    assert found.nearest.tolist() == nearest
    np.testing.assert_allclose(found.similarity, similarity, atol=1e-9)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("cut", [64, 500])
def test_the_bound_changes_no_verdict_at_a_real_width(
    exponent: float, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = text_like(1500, 256, exponent, seed=3)
    expected = judged(vectors, 0.9, 256)
    assert 150 < expected.accepted.sum() < 1400
    calls: list[int] = []
    search = leading.search_bounded

    def counted(rows: np.ndarray, whole: Tile, seen: np.ndarray, by: Leading) -> tuple[np.ndarray, np.ndarray, float]:
        calls.append(len(rows))
        return search(rows, whole, seen, by)

    monkeypatch.setattr(leading, "search_bounded", counted)
    monkeypatch.setattr(leading, "FIRST_FIT", 100)
    monkeypatch.setattr(greedy, "WORK_ELEMENTS", 1 << 14)
    found = judged(vectors, 0.9, cut)
    for name in ("accepted", "nearest", "similarity"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert exponent == 1.0 or bool(calls) == (exponent == 2.0), "a flat spectrum rules nothing out, a steep one does"


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 64), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1.0, 4.0, 12.0]))
def test_the_bound_is_sound_under_rounding(dim: int, seed: int, exponent: float) -> None:
    """Against products of whole fractions: a bound may not lie further below one than half the margin."""
    rng = np.random.default_rng(seed)
    width = int(rng.integers(1, dim))
    basis = np.linalg.qr(rng.standard_normal((dim, width)))[0]
    # in and near the span of the basis, where what is left is nothing but rounding
    vectors = unit(np.concatenate([text_like(4, dim, exponent, seed), rng.standard_normal((3, width)) @ basis.T]))
    seen = Leading(basis).coordinates(vectors)
    assert seen.dtype == np.float32
    bounds = seen @ seen.T
    allowed = float(margin_of(vectors, 1.0)) / 2
    for i, a in enumerate(vectors):
        for j, b in enumerate(vectors):
            product = sum((Fraction(x) * Fraction(y) for x, y in zip(a.tolist(), b.tolist(), strict=True)), Fraction())
            assert Fraction(float(bounds[i, j])) >= product - Fraction(allowed)


def test_a_fit_takes_the_directions_that_hold_most_and_refuses_what_does_not_pay() -> None:
    steep = text_like(1200, 512, 2.0, seed=1).astype(np.float32)
    found = leading.fitted(steep)
    assert found is not None and found.width in leading.WIDTHS
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(found.width), atol=1e-12)
    kept = float(np.square(steep @ found.basis).sum())
    most = float((np.linalg.svd(steep, compute_uv=False)[: found.width] ** 2).sum())
    assert kept > 0.97 * most
    again = leading.fitted(steep)
    assert again is not None and np.array_equal(again.basis, found.basis)
    flat = unit(np.random.default_rng(0).standard_normal((1200, 512))).astype(np.float32)
    assert leading.fitted(flat) is None
    assert leading.fitted(steep[:, :8]) is None, "fewer numbers than directions are worth"


@pytest.mark.parametrize("rows", [np.ones((1, 64)), np.ones((40, 64)), np.eye(64)[:40], np.eye(64)[[0] * 9 + [5] * 9]])
def test_vectors_without_a_spectrum(rows: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading, "FIRST_FIT", 2)
    vectors = unit(rows)
    for lambda_div in (0.5, 2.0):
        accepted, nearest, _ = greedy_by_hand(vectors, lambda_div)
        found = judged(vectors, lambda_div, 5)
        assert found.accepted.tolist() == accepted and found.nearest.tolist() == nearest


def test_a_bound_that_stops_paying_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading, "FIRST_FIT", 300)
    monkeypatch.setattr(leading, "REFIT", 1000)
    store = MemoryStore(512)
    rng = np.random.default_rng(1)
    plane, flat = rng.standard_normal((12, 512)), unit(rng.standard_normal((600, 512)))
    store.add(unit(rng.standard_normal((300, 12)) @ plane), np.arange(300))
    store.search(unit(rng.standard_normal((64, 12)) @ plane))
    assert store._leading is not None
    store.add(flat[:500], np.arange(300, 800))
    found = store.search(flat[500:])
    assert store._leading is None, "vectors outside the directions are bounded by nothing"
    for ours, plain in zip(found, store.search(flat[500:]), strict=True):
        np.testing.assert_array_equal(ours, plain)
