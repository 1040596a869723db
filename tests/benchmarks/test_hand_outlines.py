"""The outlines that are drawn by hand, and how they are filled."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import hand_outlines, run
from segkit.pictures import read_image
from synthgen.drawn.objects import CLASSES


def test_every_image_has_an_outline_and_every_class_three() -> None:
    truths = hand_outlines.outlined()
    assert set(truths) == {path.stem for path in (hand_outlines.FOLDER / "images").iterdir()}
    names = [stem.partition("_")[2] for stem in truths]
    assert sorted(names) == sorted(list(CLASSES) * 3)
    for stem, truth in truths.items():
        image = read_image(hand_outlines.FOLDER / "images" / f"{stem}.png")
        assert truth.shape == image.shape[:2] == (64, 64)
        assert 0.05 < truth.mean() < 0.6, stem


def test_a_pixel_is_inside_if_half_of_it_is() -> None:
    square = [[2, 2], [6, 2], [6, 6], [2, 6]]
    mask = hand_outlines.filled([square], [], (8, 8))
    expected = np.zeros((8, 8), bool)
    expected[2:6, 2:6] = True
    assert (mask == expected).all()
    third = hand_outlines.filled([[[2, 2], [6.3, 2], [6.3, 6], [2, 6]]], [], (8, 8))
    most = hand_outlines.filled([[[2, 2], [6.7, 2], [6.7, 6], [2, 6]]], [], (8, 8))
    assert (third == expected).all() and most.sum() == expected.sum() + 4


def test_holes_are_outside_and_outlines_add_up() -> None:
    mask = hand_outlines.filled([[[0, 0], [8, 0], [8, 8], [0, 8]]], [[[2, 2], [6, 2], [6, 6], [2, 6]]], (8, 8))
    assert not mask[3:5, 3:5].any() and mask[0].all()
    two = hand_outlines.filled([[[0, 0], [2, 0], [2, 2], [0, 2]], [[4, 4], [6, 4], [6, 6], [4, 6]]], [], (8, 8))
    assert two[:2, :2].all() and two[4:6, 4:6].all() and not two[2:4].any()


@pytest.mark.slow
def test_the_rows_are_those_that_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind:
        def predict(self, images: list[np.ndarray]) -> list[np.ndarray]:
            return [np.zeros(image.shape[:2], np.uint8) for image in images]

    truths = dict(list(hand_outlines.outlined().items())[::20])
    monkeypatch.setattr(hand_outlines, "outlined", lambda: truths)
    monkeypatch.setattr(hand_outlines, "oracle", Blind)
    made = {row.name: row for row in hand_outlines.rows()}
    assert set(made) == set(run.BENCHMARKS["benchmarks.hand_outlines:rows"])
    assert made["masks/hand/oracle_iou"].value == 0.0 and made["masks/hand/final_iou"].n == 3
    assert made["masks/hand/gain_final_over_oracle"].value == pytest.approx(made["masks/hand/final_iou"].value)
