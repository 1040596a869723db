"""A pasted object in a map of another label space: ids are translated first, the object comes then, colours last."""

from __future__ import annotations

import numpy as np

from synthgen.labels import read_label_space
from synthgen.models import PastedObject, RenderJob
from synthgen.models.conditions import Conditions
from synthgen.models.control import Control, control_pixels, painted

CITY, ADE = read_label_space("cityscapes"), read_label_space("ade20k")


def job_of(layout: np.ndarray, pasted: PastedObject | None) -> RenderJob:
    return RenderJob("s0", "p", "", 1, *layout.shape, None, None, None, layout, pasted=pasted)


def test_the_object_keeps_its_own_class_whatever_the_map_is_translated_to() -> None:
    layout = np.repeat(np.array(CITY.ids, np.uint8)[:, None], 24, axis=1)
    mask = np.zeros(layout.shape, bool)
    mask[:, 5:9] = True
    conditions = Conditions(Control("palette", ADE), "net")
    conditions.expect_labels(CITY)
    sofa = ADE.by_name("sofa").id
    assert conditions.object_id("sofa") == sofa and conditions.object_id("no such thing") is None
    jobs = [job_of(layout, None), job_of(layout, PastedObject("sofa", mask)), job_of(layout, None)]
    plain, with_sofa, after = conditions.pixels(jobs).numpy()
    np.testing.assert_array_equal(plain, after)
    expected = control_pixels(painted(ADE, np.full((1, *layout.shape), sofa, np.uint8))).numpy()[0]
    np.testing.assert_array_equal(with_sofa, np.where(mask, expected, plain))
    assert layout.max() == max(CITY.ids), "the map of the job is left alone"


def test_edges_show_any_object_and_leave_the_map_alone() -> None:
    layout = np.zeros((12, 16), np.uint8)
    mask = np.zeros(layout.shape, bool)
    mask[3:7, 4:9] = True
    conditions = Conditions(Control("edges"), "net")
    assert conditions.object_id("anything") is not None
    pixels = conditions.pixels([job_of(layout, PastedObject("anything", mask))]).numpy()[0, 0] > 0
    expected = np.zeros_like(mask)
    for row in range(12):
        for column in range(16):
            beside = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
            expected[row, column] = any(
                0 <= r < 12 and 0 <= c < 16 and mask[r, c] != mask[row, column] for r, c in beside
            )
    np.testing.assert_array_equal(pixels, expected)
    assert not layout.any()
