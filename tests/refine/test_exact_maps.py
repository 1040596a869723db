"""A label map that an image was made from is exact: the recipe for maps must give it back as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from doubles.rows import row as row_of

from synthgen.drawn import streets
from synthgen.images import read_mask, write_image
from synthgen.recipe import Recipe, read_recipe
from synthgen.records import MaskRecord, RenderRecord
from synthgen.refine import stage


def refined(run: Path, recipe: Recipe) -> tuple[np.ndarray, np.ndarray, MaskRecord]:
    """The true map of a drawn street, the final mask of the street with its map, and the row."""
    scene = streets.draw(4242, (64, 96))
    (run / "refine" / "0").mkdir(parents=True)
    write_image(scene.image, run / "image.png")
    write_image(scene.mask, run / "map.png")
    row = row_of(
        RenderRecord,
        key="s1",
        parent="p1",
        class_id=255,
        image="image.png",
        height_px=64,
        width_px=96,
        layout="map.png",
    )
    (made,) = stage.build(recipe, run).process([row], run / "refine" / "0", "0")
    assert isinstance(made, MaskRecord)
    return scene.mask, read_mask(run / made.labelling.mask), made


def test_the_recipe_for_maps_leaves_them_alone(tmp_path: Path) -> None:
    truth, mask, row = refined(tmp_path, read_recipe("streets-mini", ["execution.device=cpu"]))
    np.testing.assert_array_equal(mask, truth)
    assert row.num_kept_regions == row.num_regions > 5 and row.labelling.filled_fraction == 1


@pytest.mark.parametrize("step", ["apf", "apr"])
def test_with_the_steps_on_it_would_not_be(tmp_path: Path, step: str) -> None:
    """What the switches are for: APF frees small regions, and APR calls freed pixels something else."""
    on = ["refine.apf={enabled: true, lambda_apf: 0.3, min_region_px: 40}", f"refine.apr.enabled={step == 'apr'}"]
    truth, mask, row = refined(tmp_path, read_recipe("streets-mini", [*on, "execution.device=cpu"]))
    assert row.num_kept_regions < row.num_regions
    freed = int((mask == 255).sum()) - int((truth == 255).sum())
    assert freed > 0
    if step == "apr":
        assert ((mask != truth) & (mask != 255)).any()
