"""The rows calibration/* at tiny size: the choices really are three, and only one of them is chosen by the support."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import calibration, photographs
from benchmarks.masks import OF_PROTOTYPES
from segkit.labels import IGNORE
from synthgen.drawn import streets
from synthgen.images import write_image
from synthgen.labels import read_label_space
from synthgen.recipe import Recipe, read_recipe
from synthgen.refine import stage

SMALL = ("refine.sabr.enabled=false", "refine.features={name: doubles.colour_cells}")


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """The thresholds of each stage that a benchmark builds."""
    seen: list[tuple[object, ...]] = []
    build = stage.build

    def noted(recipe: Recipe, run: Path) -> stage.RefineStage:
        apf, apr = recipe.refine.apf, recipe.refine.apr
        seen.append((apf.lambda_apf, apr.min_cosine, apr.min_margin))
        return build(recipe, run)

    monkeypatch.setattr(stage, "build", noted)
    return seen


def test_drawings(built: list[tuple[object, ...]]) -> None:
    rows = list(calibration.drawn(1, (7,), ["support.shots=2", *SMALL]))
    assert tuple(row.name for row in rows) == calibration.ROWS["drawn"]
    assert all(0 < row.value < 1 and row.n == 1 for row in rows)  # type: ignore[operator]
    own = read_recipe("syn4seg-mini", OF_PROTOTYPES).refine
    of_recipe = (own.apf.lambda_apf, own.apr.min_cosine, own.apr.min_margin)
    assert built == [(0.6, 0.6, 0.05), of_recipe, ("auto", "auto", "auto")]


def test_camvid_by_sequence(built: list[tuple[object, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = read_label_space("camvid")
    ids = np.full(256, IGNORE, np.uint8)
    for number, name in enumerate(streets.CLASSES):
        ids[number] = next((label.id for label in space.labels if name in (label.name, *label.synonyms)), IGNORE)
    for number in range(6):
        drawing = streets.draw(number, (48, 72))
        split = tmp_path / ("val" if number % 3 == 2 else "train")
        for part, picture in (("images", drawing.image), ("labels", ids[drawing.mask])):
            (split / part).mkdir(parents=True, exist_ok=True)
            write_image(picture, split / part / f"{'abc'[number // 2]}_{number}.png")
    monkeypatch.setattr(photographs, "CAMVID", tmp_path)
    shown = {space.by_id(int(k)).name for k in np.unique(ids) if k != IGNORE}
    common = [name for name in ("road", "building") if name in shown]
    assert common
    rows = list(calibration.camvid(3, 1, [f"labels.classes=[{', '.join(common)}]", *SMALL]))
    assert tuple(row.name for row in rows) == calibration.ROWS["camvid"]
    assert all(0 < row.value <= 1 and row.n == 3 for row in rows)  # type: ignore[operator]
    assert built[:3] == [(0.6, 0.6, 0.05)] * 3 and built[6:] == [("auto", "auto", "auto")] * 3
