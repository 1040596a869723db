"""The rows proposers/*: what they count, by hand, and that all of them come at tiny size."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import proposers
from segkit.labels import Label, LabelSpace
from synthgen.models import Proposal

SPACE = LabelSpace("two", (Label(0, "ground"), Label(1, "ball")))
TRUTH = [np.array([[0, 0, 1, 1]], np.uint8), np.array([[1, 1, 255, 0]], np.uint8)]
MADE = [
    Proposal(np.array([[0, 1, 1, 255]], np.uint8), np.array([[0.9, 0.2, 0.5, 0.0]], np.float32)),
    Proposal(np.array([[1, 0, 1, 0]], np.uint8), np.array([[0.6, 0.4, 0.99, 0.8]], np.float32)),
]
MASKS = [one.mask for one in MADE]


def test_unlabelled_pixels_are_neither_right_nor_wrong_and_cost_coverage() -> None:
    assert proposers.count_labelled(MASKS, TRUTH) == 6 and proposers.coverage(MASKS, TRUTH) == pytest.approx(6 / 7)
    # ground: 2 right of 4 that are or are said to be; ball: the same
    assert proposers.iou_where_labelled(MASKS, TRUTH, SPACE) == pytest.approx((2 / 4 + 2 / 4) / 2)


def test_the_surest_pixels_are_taken_over_all_images_and_only_of_those_that_are_judged() -> None:
    for count, expected in ((2, [[0, 255, 255, 255], [255, 255, 255, 0]]), (4, [[0, 255, 1, 255], [1, 255, 255, 0]])):
        cut = proposers.surest(MADE, TRUTH, count)
        assert [mask[0].tolist() for mask in cut] == expected
        assert proposers.count_labelled(cut, TRUTH) == count
    assert proposers.iou_where_labelled(proposers.surest(MADE, TRUTH, 4), TRUTH, SPACE) == 1


def test_drawings() -> None:
    rows = list(proposers.drawn(1, (7,), ["support.shots=1", "refine.features={name: doubles.colour_cells}"]))
    assert tuple(row.name for row in rows) == proposers.ROWS["drawn"]
    values = {row.name.rpartition("/")[2]: row.value for row in rows}
    assert all(0 < value <= 1 for value in values.values())
    assert values["agreement_coverage"] < values["prototype_coverage"] == values["text_coverage"] == 1
