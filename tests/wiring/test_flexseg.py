"""The recipes flexseg: windows around rare classes, rendered, with the map as the label as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from doubles.maps_and_nets import sets_of
from doubles.runs import digest, whole_run
from PIL import Image

from segkit.index import read_index
from synthgen import stages
from synthgen.dry_run import dry_run
from synthgen.images import read_mask
from synthgen.models.used import masks_are_maps, used_backends
from synthgen.pipeline import begin, run_stage
from synthgen.planning.machine import Machine
from synthgen.recipe import read_recipe, recipe_path
from synthgen.records import MaskRecord

HERE = Machine("Linux x86_64", "3.11", 2, 500.0, (), {}, False, False, (), {})


def sets(folder: Path) -> tuple[str, ...]:
    windows = "prompts.source.windows={count: 3, side: [0.6, 1.0], min_share: 0.005}"
    return (*sets_of(folder, "cityscapes"), windows, "prompts.source.domains_per_map=2")


def test_the_window_of_the_map_is_the_label_unrepaired(tmp_path: Path) -> None:
    run = whole_run(recipe_path("flexseg-mini"), tmp_path / "run", *sets(tmp_path))
    rows: list[MaskRecord] = stages.stages(run)["refine"].rows()
    assert len(rows) == 6 and read_index(run / "dataset").num_samples == 6
    for row in rows:
        window = read_mask(run / row.picture.layout)
        assert window.shape[0] < 64
        expected = np.asarray(Image.fromarray(window).resize((96, 64), Image.Resampling.NEAREST))
        np.testing.assert_array_equal(read_mask(run / row.labelling.mask), expected)
        np.testing.assert_array_equal(read_mask(run / row.labelling.confidence), np.where(expected == 255, 0, 255))
        assert any(about.startswith("domain=") for about in row.subject.attributes)
    assert len({row.picture.layout for row in rows}) <= 3 and len({row.subject.prompt for row in rows}) >= 4


def test_a_run_that_was_cut_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    given = (*sets(tmp_path), "execution.unit_rows=2")
    whole = whole_run(recipe_path("flexseg-mini"), tmp_path / "whole", *given)
    recipe, _ = begin(read_recipe("flexseg-mini", given), tmp_path / "cut")
    for name in ("prompts", "render"):
        for done, _ in enumerate(run_stage(recipe, tmp_path / "cut", name)):
            if name == "render" and done == 1:
                break
    cut = whole_run(recipe_path("flexseg-mini"), tmp_path / "cut", *given)
    assert digest(cut / "dataset") == digest(whole / "dataset")


def test_no_support_set_and_no_features_are_asked_for_where_the_map_is_the_label() -> None:
    for name in ("flexseg", "flexseg-mini"):
        recipe = read_recipe(name)
        assert masks_are_maps(recipe)
        assert not {"feature_extractor", "mask_decoder"} & used_backends(recipe).keys()
    for name in ("syn4seg-mini", "streets-mini"):
        assert "feature_extractor" in used_backends(read_recipe(name))


def test_the_full_size_recipe_is_planned(tmp_path: Path) -> None:
    given = sets_of(tmp_path, "cityscapes")
    folder = next(text for text in given if text.startswith("prompts.source.folder"))
    plan = dry_run(read_recipe("flexseg", [folder]), tmp_path / "run", HERE)
    assert {stage.name: stage.rows for stage in plan.stages}["render"] == 10_000
    assert plan.needs_gpu
