"""Intersection over union against counting, and against torchmetrics where both have the same convention."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassConfusionMatrix

from segtrain.metrics.iou import ConfusionMatrix, mean_iou

IDS = (7, 0, 50, 3)


def masks(seed: int, count: int = 3) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    sizes = [tuple(rng.integers(1, 9, 2)) for _ in range(count)]
    truths = [rng.choice([0, 3, 7, 254, 255], size=size).astype(np.uint8) for size in sizes]
    return [rng.choice([0, 3, 50, 255], size=size).astype(np.uint8) for size in sizes], truths


@hypothesis.settings(max_examples=50, deadline=None)
@given(st.integers(0, 100_000))
def test_against_counting_one_class_at_a_time(seed: int) -> None:
    predictions, truths = masks(seed)
    p, t = (np.concatenate([mask.ravel() for mask in some]) for some in (predictions, truths))
    p, t = p[t < 254], t[t < 254]
    expected = {}
    for class_id in IDS:
        union = np.sum((p == class_id) | (t == class_id))
        expected[class_id] = np.sum((p == class_id) & (t == class_id)) / union if union else None
    matrix = ConfusionMatrix(IDS)
    for prediction, truth in zip(predictions, truths, strict=True):
        matrix.add(prediction, truth)
    assert matrix.iou == expected
    assert matrix.pixels == {class_id: int(np.sum(t == class_id)) for class_id in IDS}
    present = [value for value in expected.values() if value is not None]
    assert matrix.mean_iou() == mean_iou(predictions, truths, IDS)
    assert matrix.mean_iou() == (pytest.approx(np.mean(present)) if present else None)
    assert matrix.pixel_accuracy == (pytest.approx(np.mean(p == t)) if t.size else None)


def test_against_torchmetrics() -> None:
    """It knows no prediction that is no class."""
    rng = np.random.default_rng(0)
    truth, prediction = rng.choice([0, 1, 2, 255], size=(20, 30)), rng.integers(0, 3, (20, 30))
    theirs = MulticlassConfusionMatrix(3, ignore_index=255)
    theirs.update(torch.from_numpy(prediction).flatten(), torch.from_numpy(truth).flatten())
    ours = ConfusionMatrix((0, 1, 2))
    ours.add(prediction.astype(np.uint8), truth.astype(np.uint8))
    assert np.array_equal(ours.counts[:, :3], theirs.compute().numpy()) and not ours.counts[:, 3].any()


def test_a_class_that_is_only_predicted_pulls_the_mean_down_and_one_that_nobody_mentions_does_not() -> None:
    truth = np.zeros((2, 4), np.uint8)
    prediction = truth.copy()
    prediction[0, 0] = 1
    assert mean_iou([prediction], [truth], [0, 1, 2]) == pytest.approx((7 / 8 + 0) / 2)


def test_an_unlabelled_prediction_is_a_miss_and_nobodys_false_alarm() -> None:
    truth = np.array([[0, 0, 1, 1]], np.uint8)
    matrix = ConfusionMatrix([0, 1])
    matrix.add(np.array([[0, 255, 1, 1]], np.uint8), truth)
    assert matrix.iou == {0: 0.5, 1: 1.0}
    assert matrix.pixel_accuracy == 0.75


def test_what_is_predicted_where_nothing_is_labelled_does_not_count() -> None:
    truth, prediction = np.array([[0, 255, 254]], np.uint8), np.array([[0, 1, 1]], np.uint8)
    assert mean_iou([prediction], [truth], [0, 1]) == 1


def test_nothing_to_score_is_none() -> None:
    void = np.full((3, 3), 255, np.uint8)
    matrix = ConfusionMatrix([0, 1])
    matrix.add(np.zeros((3, 3), np.uint8), void)
    assert matrix.mean_iou() is matrix.pixel_accuracy is None
    matrix.add(np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8))
    assert matrix.mean_iou() == 1
    assert matrix.mean_iou(without=[0]) is None, "a perfect prediction without foreground has no foreground mean"


def test_a_truth_of_background_alone_has_no_mean_whatever_is_predicted() -> None:
    truth = np.zeros((4, 4), np.uint8)
    for false_alarms in (0, 1):
        prediction = truth.copy()
        prediction[:, :false_alarms] = 1
        matrix = ConfusionMatrix([0, 1], background=0)
        matrix.add(prediction, truth)
        assert matrix.mean_iou() is matrix.mean_iou(without=[0]) is None
        assert matrix.pixel_accuracy == 1 - false_alarms / 4
    matrix.add(truth + 1, truth + 1)
    assert matrix.mean_iou() == pytest.approx((12 / 16 + 16 / 20) / 2)


def test_masks_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) and truth \(3, 2\)"):
        ConfusionMatrix([0]).add(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8))
