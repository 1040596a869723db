"""Where a segmenter is weak, as weights and quotas."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen.prompts.need import Need, need_of, quotas

SCORES = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.none() | st.floats(0, 1), min_size=1, max_size=8)


def test_what_is_worst_weighs_most_and_what_was_not_seen_weighs_the_mean() -> None:
    need = need_of({"cat": 0.9, "bus": 0.5, "dog": None}, {}, power=1.0, floor=0.1)
    assert need.classes == pytest.approx({"cat": 0.1 / 0.3, "bus": 0.5 / 0.3, "dog": 1.0})
    squared = need_of({"cat": 0.9, "bus": 0.5}, {}, power=2.0, floor=0.01).classes
    assert squared == pytest.approx({"cat": 0.01 / 0.13, "bus": 0.25 / 0.13})


def test_the_least_weight_is_the_floor_before_the_mean_is_one_again() -> None:
    weights = need_of({"cat": 1.0, "bus": 0.0}, {}, power=1.0, floor=0.25).classes
    assert weights == pytest.approx({"cat": 0.25 / 1.125, "bus": 2 / 1.125})


@given(SCORES, st.floats(0, 4), st.floats(0.01, 1))
def test_weights_are_above_zero_of_mean_one_and_fall_with_the_score(scores, power: float, floor: float) -> None:
    weights = need_of(scores, scores, power, floor).classes
    assert list(weights) == list(scores) and all(weight > 0 for weight in weights.values())
    assert math.isclose(sum(weights.values()), len(weights), rel_tol=1e-9)
    known = sorted((score, weights[name]) for name, score in scores.items() if score is not None)
    assert all(a[1] >= b[1] - 1e-9 for a, b in itertools.pairwise(known))


def test_without_power_or_without_faults_all_are_alike() -> None:
    assert need_of({"a": 0.2, "b": 0.9}, {}, 0.0, 0.25).classes == {"a": 1.0, "b": 1.0}
    assert need_of({"a": 1.0, "b": 1.0}, {}, 1.0, 0.25).classes == {"a": 1.0, "b": 1.0}


def test_a_domain_is_found_by_its_name_among_the_words() -> None:
    need = Need({}, {"night": 2.0, "fog": 0.5, "Clear": 0.5})
    assert [need.of_domain(words) for words in ("at night", "in fog", "on a clear day", "in rain")] == [
        2.0, 0.5, 0.5, None
    ]  # fmt: skip
    assert need.of_domain("in fog at night") is None, "two domains: which one is not said"
    assert Need({}, {"foggy night": 2.0}).of_domain("foggy night") == 2.0
    assert need.of_domain("knight") is None, "a part of a word is no word"


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.floats(0.01, 100), min_size=1, max_size=9),
    st.integers(0, 500),
)
def test_quotas_sum_to_the_count_and_lie_within_one_of_the_exact_share(weights, count: int) -> None:
    given_out = quotas(weights, count)
    assert sum(given_out.values()) == count and list(given_out) == list(weights)
    for name, weight in weights.items():
        assert abs(given_out[name] - count * weight / sum(weights.values())) < 1 + 1e-6


def test_of_equal_remainders_the_first_gets_the_one_that_is_left() -> None:
    assert quotas({"a": 1.0, "b": 1.0, "c": 1.0}, 4) == {"a": 2, "b": 1, "c": 1}
    assert quotas({"a": 3.0, "b": 1.2, "c": 0.8}, 5) == {"a": 3, "b": 1, "c": 1}
