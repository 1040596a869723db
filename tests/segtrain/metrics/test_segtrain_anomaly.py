"""Pooled AUROC, AP and FPR at 95 % recall against definitions written out pair by pair and threshold by threshold."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from segtrain.metrics.anomaly import AnomalyScores, Rule, ScoreHistogram, place_of_recall

Image = tuple[np.ndarray, np.ndarray]


def pooled(images: list[Image]) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float32 and whether each is unknown, of the labelled pixels of all images."""
    scores = np.concatenate([u[y != 255] for u, y in images]).astype(np.float32)
    return scores, np.concatenate([y[y != 255] == 254 for _, y in images])


def by_definition(scores: np.ndarray, unknown: np.ndarray, rule: Rule) -> dict[str, float]:
    """No histogram and no sorting: pairs for AUROC, one threshold after another for the rest."""
    above = (scores[unknown][:, None] > scores[~unknown][None]).mean()
    equal = (scores[unknown][:, None] == scores[~unknown][None]).mean()
    points, ap, last = [], 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        called = scores >= threshold
        recall, precision = called[unknown].mean(), unknown[called].mean()
        ap, last = ap + (recall - last) * precision, recall
        points.append((threshold, recall, called[~unknown].mean()))
    if rule == "first":
        threshold, _, fpr = next(point for point in points if point[1] >= 0.95)
    else:  # nearest; of equals the lowest threshold, but none below that of full recall
        full = next(point[0] for point in points if point[1] == 1)
        threshold, _, fpr = min(
            (point for point in points if point[0] >= full), key=lambda point: (abs(point[1] - 0.95), point[0])
        )
    return {"auroc": above + equal / 2, "ap": ap, "fpr95": fpr, "threshold": threshold}


def random_images(seed: int, count: int = 3, size: tuple[int, int] = (20, 15)) -> list[Image]:
    """Energies as networks give them, some of them equal, a third of the pixels without a label."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        truth = rng.choice([0, 3, 17, 254, 255], p=[0.3, 0.2, 0.1, 0.1, 0.3], size=size).astype(np.uint8)
        scores = rng.normal(-9, 2, size) + 3 * (truth == 254) * rng.random(size)
        images.append((np.round(scores * 4) / 4, truth))
    return images


def histogram(images: list[Image]) -> ScoreHistogram:
    gathered = ScoreHistogram()
    for uncertainty, truth in images:
        gathered.add(uncertainty, truth)
    return gathered


@pytest.mark.parametrize("rule", ["first", "nearest"])
@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_the_definitions(seed: int, rule: Rule) -> None:
    """Quarters fall into bins of their own, so nothing is lost to the histogram."""
    images = random_images(seed)
    scores = histogram(images).scores(rule)
    for name, value in by_definition(*pooled(images), rule).items():
        width = 2.0**-15 if name == "threshold" else 0  # of a bin
        assert getattr(scores, name) == pytest.approx(value, rel=width, abs=1e-12), name
    assert scores.rule == rule


def test_bins_cost_less_than_a_thousandth() -> None:
    """Scores that are all different, in every range that an uncertainty has: energies, probabilities, around 0."""
    rng = np.random.default_rng(5)
    truth = np.where(rng.random((40, 50)) < 0.05, 254, 1).astype(np.uint8)
    plain = rng.normal(size=truth.shape) + 1.5 * (truth == 254)
    for scores in (plain, plain - 12, 1 / (1 + np.exp(-plain)), 1e-6 * plain, 1e6 * plain, plain / 4 - 20):
        images = [(scores, truth)]
        exact = by_definition(*pooled(images), "first")
        ours = histogram(images).scores()
        for name in ("auroc", "ap", "fpr95"):
            assert getattr(ours, name) == pytest.approx(exact[name], abs=1e-3), name


def test_a_hundred_large_images_fit_in_bounded_memory() -> None:
    """One picture of 1024 x 2048 after another; torchmetrics has its own idea of AUROC and AP over the same pixels."""
    import torch
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision

    rng = np.random.default_rng(1)
    gathered, few = ScoreHistogram(), []
    size = (1024, 2048)
    base = rng.normal(-8, 1.5, size).astype(np.float32)
    truth = np.zeros(size, np.uint8)
    truth[500:620, 700:1000] = 254
    truth[900:] = 255
    tracemalloc.start()
    peaks = []
    for number in range(6):
        gathered.add(base + np.float32(number) * (truth == 254) / 4, truth)
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert peaks[-1] < 1.001 * peaks[0], "the sixth picture needs no more than the first"
    for number in range(6):
        few.append((base + np.float32(number) * (truth == 254) / 4)[::7, ::7])
    labels = np.stack([truth[::7, ::7]] * 6)
    thin = ScoreHistogram()
    for uncertainty in few:
        thin.add(uncertainty, truth[::7, ::7])
    kept = labels.ravel() != 255
    scores = torch.from_numpy(np.stack(few).ravel()[kept])
    unknown = torch.from_numpy((labels.ravel()[kept] == 254).astype(np.int64))
    # torchmetrics squashes what is outside 0..1; an order-preserving map of our own keeps that out of the comparison.
    ranks = torch.argsort(torch.argsort(scores)).double() / len(scores)
    assert thin.scores().auroc == pytest.approx(binary_auroc(ranks, unknown).item(), abs=1e-3)
    assert thin.scores().ap == pytest.approx(binary_average_precision(ranks, unknown).item(), abs=1e-3)


def test_pooling_is_not_a_mean_over_images() -> None:
    """Two pictures that are each sorted perfectly, on different scales: pooled they are not."""
    truth = np.array([[0, 254]], np.uint8)
    images = [(np.array([[0.0, 1.0]]), truth), (np.array([[10.0, 11.0]]), truth)]
    assert [histogram([image]).scores().auroc for image in images] == [1.0, 1.0]
    assert histogram(images).scores().auroc == 0.75


def test_the_two_rules_differ_and_say_so() -> None:
    """Recalls 0.5, 0.94, 1: `first` must go to full recall, `nearest` stops below 0.95."""
    truth = np.full((1, 200), 254, np.uint8)
    truth[0, 100:] = 0
    uncertainty = np.concatenate([np.full(50, 4.0), np.full(44, 3.0), np.full(36, 1.0), np.zeros(70)])
    gathered = histogram([(uncertainty[None], truth)])
    first, nearest = gathered.scores("first"), gathered.scores("nearest")
    assert (first.fpr95, first.threshold, first.rule) == (0.3, 1.0, "first")
    assert (nearest.fpr95, nearest.threshold, nearest.rule) == (0.0, 3.0, "nearest")


def test_of_two_thresholds_as_near_the_lower_one_counts_up_to_full_recall() -> None:
    assert place_of_recall(np.array([0.5, 0.94, 0.94, 1.0]), "nearest") == 2
    assert place_of_recall(np.array([0.5, 1.0, 1.0, 1.0]), "nearest") == 1
    assert place_of_recall(np.array([0.5, 0.95, 1.0]), "first") == 1


def test_nothing_to_compare_is_none_and_no_number() -> None:
    truth = np.array([[0, 255]], np.uint8)
    scores = histogram([(np.zeros((1, 2)), truth)]).scores()
    assert scores == AnomalyScores(None, None, None, None, "first", 0, 1)
    assert histogram([(np.zeros((1, 2)), np.array([[254, 255]], np.uint8))]).scores().auroc is None


def test_alarms_of_a_set_above_the_threshold_of_another() -> None:
    day = histogram([(np.arange(20, dtype=float)[None], np.array([[0] * 10 + [254] * 10], np.uint8))])
    threshold = day.scores().threshold
    assert threshold == 10.0
    weather = histogram([(np.array([[9.5, 10.0, 12.0, 3.0, 50.0]]), np.array([[0, 0, 0, 0, 254]], np.uint8))])
    assert weather.alarm_share(threshold) == 0.5
    assert ScoreHistogram().alarm_share(threshold) is None


def test_quantiles_are_over_all_labelled_pixels() -> None:
    gathered = histogram([(np.arange(100, dtype=float)[None], np.where(np.arange(100) < 90, 0, 254)[None])])
    assert [gathered.quantile(share) for share in (0, 0.01, 0.5, 1)] == [0.0, 0.0, 49.0, 99.0]


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="not of one shape"):
        ScoreHistogram().add(np.zeros((2, 2)), np.zeros((2, 3), np.uint8))
    with pytest.raises(ValueError, match="not a number"):
        ScoreHistogram().add(np.array([[np.nan]]), np.zeros((1, 1), np.uint8))
    ScoreHistogram().add(np.array([[np.nan]]), np.full((1, 1), 255, np.uint8))


def test_zero_has_no_sign() -> None:
    """-0.0 and 0.0 are equal, so an unknown pixel of one and a known one of the other are a tie."""
    histogram = ScoreHistogram()
    histogram.add(np.array([[-0.0, 0.0]]), np.array([[0, 254]], np.uint8))
    assert histogram.scores().auroc == 0.5
