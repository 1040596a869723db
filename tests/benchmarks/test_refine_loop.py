"""The straightforward loop of refinement gives the masks of the stage; where it does not, there is no row."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks import refine_loop

FEW = ("support.shots=1",)


def test_the_loop_gives_the_same_masks_and_every_step_is_timed() -> None:
    made = {row.name: row for row in refine_loop.rows_of(64, 6, 2, FEW)}
    assert set(made) == {name for name in refine_loop.ROWS if name.startswith("refine/64/")}
    assert all(row.n == 2 and math.isfinite(float(row.value)) for row in made.values())
    seconds = {way: 1 / float(made[f"refine/64/all_{way}"].value) for way in refine_loop.WAYS}
    for way in refine_loop.WAYS:
        parts = sum(1 / float(made[f"refine/64/{step}_{way}"].value) for step in refine_loop.STEPS)
        assert 0.5 * seconds[way] < parts < 1.3 * seconds[way], "the steps are most of the whole"


def test_a_loop_that_does_something_else_gives_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def blank(self: refine_loop.Loop, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros_like(mask), np.ones(mask.shape)

    monkeypatch.setattr(refine_loop.Loop, "_sabr", blank)
    with pytest.raises(RuntimeError, match=r"^mask: \d+\.\d+% of the pixels differ"):
        list(refine_loop.rows_of(64, 2, 1, FEW))
