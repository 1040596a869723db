"""The recipes clouds: pictures without masks, and what segtrain makes of their shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from doubles.maps_and_nets import sets_of
from doubles.runs import whole_run

from segkit.index import read_index
from segkit.shards import Dataset
from synthgen import stages
from synthgen.dataset.verify import verify
from synthgen.dry_run import dry_run
from synthgen.images import read_mask
from synthgen.models.used import masks_are_maps, used_backends
from synthgen.planning.machine import Machine
from synthgen.recipe import read_recipe, recipe_path
from synthgen.records import MaskRecord

HERE = Machine("Linux x86_64", "3.11", 2, 500.0, (), {}, False, False, (), {})


def test_the_layout_is_rendered_and_thrown_away(tmp_path: Path) -> None:
    given = (*sets_of(tmp_path, "cityscapes"), "prompts.source.domains_per_map=2")
    run = whole_run(recipe_path("clouds-mini"), tmp_path / "run", *given)
    rows: list[MaskRecord] = stages.stages(run)["refine"].rows()
    assert len(rows) >= 4 and read_index(run / "dataset").num_samples == len(rows)
    for row in rows:
        assert (read_mask(run / row.picture.layout) < 255).any(), "the run keeps it, for who wants to judge"
        assert row.labelling.labelled_fraction == 0
    for sample in Dataset(run / "dataset"):
        assert (sample.mask == 255).all() and (sample.confidence == 0).all() and np.ptp(sample.image) > 20
    assert verify(run / "dataset") == []


def test_no_model_of_masks_is_asked_for() -> None:
    for name in ("clouds", "clouds-mini"):
        recipe = read_recipe(name)
        assert masks_are_maps(recipe)
        assert not {"feature_extractor", "mask_decoder"} & used_backends(recipe).keys()


def test_the_full_size_recipe_is_planned(tmp_path: Path) -> None:
    plan = dry_run(read_recipe("clouds"), tmp_path / "run", HERE)
    rows = {stage.name: stage.rows for stage in plan.stages}
    assert rows["prompts"] == 19 * 6 and rows["render"] == rows["pack"] == 5_016
    assert plan.needs_gpu
