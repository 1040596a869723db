"""Component metrics against a reference that goes pixel by pixel through sets."""

from __future__ import annotations

import numpy as np
import pytest

from segtrain.metrics.anomaly import ScoreHistogram
from segtrain.metrics.components import Components

Pixel = tuple[int, int]


def parts_of(inside: np.ndarray) -> list[set[Pixel]]:
    """8-connected parts by flood fill."""
    left = {(int(row), int(column)) for row, column in zip(*np.nonzero(inside), strict=True)}
    found = []
    while left:
        part, edge = set(), [left.pop()]
        while edge:
            row, column = edge.pop()
            part.add((row, column))
            near = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            edge += near
        found.append(part)
    return found


def by_sets(pictures: list[tuple[np.ndarray, np.ndarray]], threshold: float, min_segment: int, min_object: int):
    sious, ppvs = [], []
    for scores, truth in pictures:
        objects = parts_of(truth == 254)
        segments = [part for part in parts_of((scores >= threshold) & (truth != 255)) if len(part) >= min_segment]
        void = set().union(*(part for part in objects if len(part) < min_object), set())
        objects = [part for part in objects if len(part) >= min_object]
        segments = [part - void for part in segments if part - void]
        for one in objects:
            touching = set().union(*(part for part in segments if part & one), set())
            others = set().union(*(part for part in objects if part is not one), set())
            sious.append(len(one & touching) / len((one | touching) - others))
        everything = set().union(*objects, set())
        ppvs += [len(part & everything) / len(part) for part in segments]
    f1s = []
    for number in range(11):
        limit = (25 + 5 * number) / 100
        found = sum(value >= limit - 1e-12 for value in sious)
        false = sum(value < limit - 1e-12 for value in ppvs)
        f1s.append(2 * found / (found + len(sious) + false))
    return np.mean(sious), np.mean(ppvs), np.mean(f1s), len(sious), len(ppvs)


@pytest.mark.parametrize(("min_segment", "min_object"), [(0, 0), (3, 0), (0, 4), (4, 3)])
def test_against_sets_of_pixels(min_segment: int, min_object: int) -> None:
    rng = np.random.default_rng(min_segment + 10 * min_object)
    pictures = []
    for _ in range(12):
        truth = rng.choice(np.array([0, 254, 255], np.uint8), (10, 12), p=[0.6, 0.28, 0.12])
        scores = rng.normal(size=truth.shape) + (truth == 254)
        pictures.append((scores, truth))
    components = Components(0.9, min_segment, min_object)
    for scores, truth in pictures:
        components.add(scores, truth)
    found = components.scores()
    expected = by_sets(pictures, 0.9, min_segment, min_object)
    assert (found.siou, found.ppv, found.f1, found.objects, found.segments) == pytest.approx(expected)
    assert 0 < found.f1 < 1 and found.objects > 10 and found.segments > 10


def test_without_an_object_nothing_is_scored() -> None:
    truth = np.zeros((4, 9), np.uint8)
    truth[0, 0] = 254
    components = Components(0.5, min_object_px=2)
    components.add(np.ones((4, 9)), truth)
    found = components.scores()
    assert (found.siou, found.ppv, found.f1, found.objects, found.segments) == (None, None, None, 0, 1)


def test_a_segment_over_two_objects_is_not_held_against_either() -> None:
    truth = np.zeros((4, 9), np.uint8)
    truth[:, 0:3], truth[:, 6:9] = 254, 254
    components = Components(0.5)
    components.add(np.ones((4, 9)), truth)  # one segment: both objects and 12 px between them
    found = components.scores()
    assert (found.siou, found.ppv) == (pytest.approx(12 / 24), pytest.approx(24 / 36))
    assert found.f1 == pytest.approx(np.mean([2 * 2 / (2 * 2 + 0)] * 6 + [0.0] * 5))


def test_what_is_not_there_has_no_score() -> None:
    components = Components(0.5)
    components.add(np.zeros((3, 3)), np.zeros((3, 3), np.uint8))
    assert (components.scores().siou, components.scores().ppv, components.scores().f1) == (None, None, None)
    components.add(np.ones((3, 3)), np.zeros((3, 3), np.uint8))
    found = components.scores()
    assert (found.siou, found.ppv, found.f1, found.segments) == (None, None, None, 1), "false alarms alone"


def test_the_threshold_is_that_of_greatest_f1_of_pixels() -> None:
    rng = np.random.default_rng(1)
    truth = rng.choice(np.array([0, 254, 255], np.uint8), (40, 40), p=[0.8, 0.15, 0.05])
    scores = (rng.normal(size=truth.shape) + 2.0 * (truth == 254)).astype(np.float32)
    histogram = ScoreHistogram()
    histogram.add(scores, truth)
    unknown, labelled = truth == 254, truth != 255

    def f1(threshold: float) -> float:
        called = (scores >= threshold) & labelled
        return 2 * (called & unknown).sum() / (called.sum() + unknown.sum())

    best = max(f1(value) for value in scores[labelled].tolist())
    assert f1(histogram.best_f1_threshold()) == pytest.approx(best, abs=2e-3)
    with pytest.raises(ValueError, match="no pixel is unknown"):
        ScoreHistogram().best_f1_threshold()
