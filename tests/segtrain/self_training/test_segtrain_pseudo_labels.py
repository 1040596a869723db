"""Pseudo-labels against slow references: confidence, Sinkhorn, what was pasted, the loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from segkit.labels import IGNORE, Label, LabelSpace
from segtrain.data.joint import LABELLED, OWN, UNLABELLED, Views
from segtrain.self_training.config import SelfTrainingSettings
from segtrain.self_training.pictures import painted
from segtrain.self_training.pseudo_labels import (
    PseudoLabels,
    agreed,
    confidence_weights,
    of_students_view,
    pseudo_labels,
    sinkhorn,
    weighted_cross_entropy,
)

RNG = np.random.default_rng(0)
LOGITS = torch.from_numpy(RNG.normal(size=(3, 4, 5, 6))).float() * 2
INSIDE = torch.from_numpy((RNG.random((3, 5, 6)) < 0.8).astype(np.uint8))


def settings(**changes: Any) -> SelfTrainingSettings:
    return SelfTrainingSettings(unlabelled=("x",), **changes)


def test_labels_are_the_likeliest_classes_inside_the_picture() -> None:
    labels = pseudo_labels(LOGITS, INSIDE, settings())
    inside = INSIDE.bool()
    assert torch.equal(labels.channels[inside], LOGITS.argmax(dim=1)[inside])
    assert (labels.channels[~inside] == 255).all() and (labels.weights == 1).all()


@pytest.mark.parametrize("threshold", [0.0, 0.7, 0.9, 1.0])
def test_weights_of_both_kinds_against_counting(threshold: float) -> None:
    best, inside = LOGITS.softmax(dim=1).amax(dim=1), INSIDE.bool()
    hard = confidence_weights(best, inside, "threshold", threshold)
    share = confidence_weights(best, inside, "share", threshold)
    for crop in range(3):
        sure = [(p >= threshold) for p in best[crop][inside[crop]].tolist()]
        assert hard[crop][inside[crop]].tolist() == [float(s) for s in sure]
        assert share[crop].unique().tolist() == [pytest.approx(sum(sure) / len(sure))]
    assert (confidence_weights(best, inside, "none", threshold) == 1).all()


def test_a_crop_of_padding_alone_weighs_nothing_and_is_no_nan() -> None:
    outside = torch.zeros(1, 5, 6, dtype=torch.bool)
    assert (confidence_weights(torch.ones(1, 5, 6), outside, "share", 0.5) == 0).all()
    labels = pseudo_labels(LOGITS[:1], outside.byte(), settings(sinkhorn=True))
    assert (labels.channels == 255).all()
    assert weighted_cross_entropy(LOGITS[:1], labels).item() == 0


def test_a_probability_right_at_the_threshold_is_sure() -> None:
    exact = torch.tensor([[[0.5, 0.49]]])
    assert confidence_weights(exact, torch.ones_like(exact, dtype=torch.bool), "threshold", 0.5).tolist() == [[[1, 0]]]


def test_sinkhorn_against_the_scaling_of_a_matrix() -> None:
    inside = INSIDE.bool()
    rows = LOGITS.movedim(1, -1)[inside].double().numpy()
    matrix = np.exp(rows / 0.5).T  # classes x pixels
    matrix /= matrix.sum()
    for _ in range(3):
        matrix /= matrix.sum(axis=1, keepdims=True) * len(matrix)
        matrix /= matrix.sum(axis=0, keepdims=True) * matrix.shape[1]
    expected = (matrix * matrix.shape[1]).T
    made = sinkhorn(LOGITS, inside, 0.5, 3)
    assert np.allclose(made.movedim(1, -1)[inside].numpy(), expected, atol=1e-5)
    assert (made.movedim(1, -1)[~inside] == 0).all()


def test_sinkhorn_gives_every_class_its_part_where_argmax_gives_one_class_all() -> None:
    logits = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 4, 40, 40))).float()
    logits[:, 0] += 5
    plain = logits.argmax(dim=1).flatten().bincount(minlength=4)
    spread = sinkhorn(logits, torch.ones(1, 40, 40, dtype=torch.bool), 0.05, 50).argmax(dim=1).flatten().bincount()
    assert plain[0] > 1550 and (spread > 300).all()


def test_large_logits_do_not_overflow() -> None:
    made = sinkhorn(LOGITS * 1e4, INSIDE.bool(), 0.05, 3)
    assert torch.isfinite(made).all()
    assert torch.allclose(made.sum(dim=1)[INSIDE.bool()], torch.ones(int(INSIDE.sum())), atol=1e-4)


def views_of(origin: torch.Tensor, partner: list[int], pasted: torch.Tensor) -> Views:
    pixels = torch.zeros(len(origin), 3, *origin.shape[1:], dtype=torch.uint8)
    return Views(
        pixels, pixels, torch.ones_like(origin), origin, torch.tensor(partner), pasted, torch.full_like(origin, 255)
    )


def test_labels_and_weights_follow_what_was_pasted() -> None:
    channels = torch.tensor([[[0, 1, 2, 3]], [[10, 11, 12, 13]]])
    weights = torch.tensor([[[0.1, 0.2, 0.3, 0.4]], [[0.5, 0.6, 0.7, 0.8]]])
    origin = torch.tensor([[[OWN, UNLABELLED, LABELLED, OWN]], [[UNLABELLED, OWN, OWN, LABELLED]]], dtype=torch.uint8)
    pasted = torch.tensor([[[255, 255, 7, 255]], [[255, 255, 255, 8]]], dtype=torch.uint8)
    made = of_students_view(PseudoLabels(channels, weights), views_of(origin, [1, 0], pasted))
    assert made.channels.tolist() == [[[0, 11, 7, 3]], [[0, 11, 12, 8]]]
    assert made.weights[0, 0].tolist() == pytest.approx([0.1, 0.6, 1.0, 0.4])
    assert made.weights[1, 0].tolist() == pytest.approx([0.1, 0.6, 0.7, 1.0])


def test_where_mask_and_teacher_agree_a_label_is_sure_and_where_they_differ_there_is_none() -> None:
    teacher = PseudoLabels(torch.tensor([[[1, 1, 1, 1, 255]]]), torch.tensor([[[0.0, 0.3, 0.0, 0.7, 0.2]]]))
    made = agreed(teacher, torch.tensor([[[1, 2, 255, 254, 1]]]))
    assert made.channels.tolist() == [[[1, 255, 1, 1, 255]]]
    assert made.weights[0, 0].tolist() == pytest.approx([1.0, 0.3, 0.0, 0.7, 0.2])


def test_the_loss_is_over_labelled_pixels_and_not_over_weights() -> None:
    channels = LOGITS.argmax(dim=1).masked_fill(~INSIDE.bool(), 255)
    weights = torch.from_numpy(RNG.random((3, 5, 6))).float()
    expected = total = 0.0
    for place in np.ndindex(3, 5, 6):
        if channels[place] != 255:
            crop, row, column = place
            total += 1
            expected -= weights[place].item() * LOGITS[crop, :, row, column].log_softmax(0)[channels[place]].item()
    made = weighted_cross_entropy(LOGITS, PseudoLabels(channels, weights)).item()
    assert made == pytest.approx(expected / total, rel=1e-5)


def test_pictures_tell_classes_apart_to_which_nobody_gave_a_colour() -> None:
    space = LabelSpace("plain", (Label(3, "cat"), Label(7, "dog")))
    cat, dog, unlabelled = painted(torch.tensor([[[0, 1, IGNORE]]]), space)[0, 0]
    assert cat.tolist() != dog.tolist() and unlabelled.tolist() == [0, 0, 0]
