"""Expected calibration error."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from segtrain.metrics.calibration import expected_calibration_error


def test_by_hand() -> None:
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.3, 0.3])
    correct = np.array([True, True, True, False, False, False])
    assert expected_calibration_error(confidence, correct, bins=10) == pytest.approx((4 * 0.15 + 2 * 0.3) / 6)


def test_a_loop_over_bins_says_the_same() -> None:
    rng = np.random.default_rng(0)
    confidence, correct = rng.integers(0, 256, (40, 50)) / 255, rng.random((40, 50)) < 0.7
    total, edges = 0.0, np.linspace(0, 1, 16)
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high) | ((low == 0) & (confidence == 0))
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(confidence, correct) == pytest.approx(total)


def test_perfect_certainty_and_nothing() -> None:
    assert expected_calibration_error(np.ones(5), np.ones(5, bool)) == 0
    assert expected_calibration_error(np.ones(5), np.zeros(5, bool)) == 1
    assert expected_calibration_error(np.zeros(0), np.zeros(0, bool)) is None
    with pytest.raises(ValueError, match="3 confidences and 2 answers"):
        expected_calibration_error(np.zeros(3), np.zeros(2, bool))
