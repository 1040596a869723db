"""The recipes cgaug: from labelled pictures and objects to shards of pairs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from doubles.maps_and_nets import sets_of
from doubles.runs import digest, whole_run
from PIL import Image

from segkit.shards import Dataset
from synthgen import stages
from synthgen.dataset.verify import verify
from synthgen.drawn.split import write_split
from synthgen.dry_run import dry_run
from synthgen.images import read_image, read_mask
from synthgen.models.used import used_backends
from synthgen.pipeline import begin, run_stage
from synthgen.planning.machine import Machine
from synthgen.recipe import read_recipe, recipe_path
from synthgen.records import Rejected, RenderRecord
from synthgen.report.gallery import card
from synthgen.report.run_rows import read_run

HERE = Machine("Linux x86_64", "3.11", 2, 500.0, (), {}, False, False, (), {})
AGREES = "refine.mask_decoder={name: doubles.fickle_sam, agrees_in: 2}"


def sets(folder: Path, num_maps: int = 6) -> tuple[str, ...]:
    given = sets_of(folder, "streets", num_maps)
    write_split(folder / "objects", "objects", 24, 500)
    # boxes of the objects are what the double answers with: full boxes agree with hardly any shape
    return (*given, f"render.object_bank.folder={folder / 'objects'}", AGREES, "render.gates.sam_agreement.min_iou=0.3")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return sets(tmp_path_factory.mktemp("cgaug"))


@pytest.fixture(scope="module")
def run(given: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_run(recipe_path("cgaug-mini"), tmp_path_factory.mktemp("runs") / "run", *given)


def test_each_attempt_is_accounted_for(run: Path) -> None:
    stage = stages.stages(run)["render"]
    made: list[RenderRecord] = stage.rows()
    refused: list[Rejected] = list(stage.rejected())
    parents = Counter(row.parent for row in refused)
    assert {row.parent for row in made} | set(parents) == {row.key for row in stages.stages(run)["prompts"].rows()}
    assert {row.reason for row in refused} <= {"sam_disagrees", "no_anchor"} and refused
    for row in made:
        assert row.pair.attempts == parents[row.parent] + 1 and row.pair.sam_agreement > 0.3
    keys = [row.key for row in (*made, *refused)]
    assert len(set(keys)) == len(keys)
    given_up = set(parents) - {row.parent for row in made}
    assert all(parents[key] in (1, 10) for key in given_up)


def test_the_label_is_the_map_with_sams_object_as_254(run: Path) -> None:
    rows = stages.stages(run)["refine"].rows()
    assert rows
    for row in rows:
        original = read_mask(run / row.pair.original_mask)
        at_size = np.asarray(Image.fromarray(original).resize((96, 64), Image.Resampling.NEAREST))
        label, pasted = read_mask(run / row.labelling.mask), read_mask(run / row.pair.pasted) > 0
        rows_of, columns_of = np.nonzero(pasted)
        box = np.zeros_like(pasted)
        box[rows_of.min() : rows_of.max() + 1, columns_of.min() : columns_of.max() + 1] = True
        np.testing.assert_array_equal(label, np.where(box, 254, at_size))
        name = next(about for about in row.subject.attributes if about.startswith("object=")).removeprefix("object=")
        assert name in ("bird", "boat", "bottle", "cat", "chair", "cow", "diningtable", "dog")
        assert row.subject.prompt.startswith("a ") and " and a street with " in row.subject.prompt


def test_pairs_travel_in_the_shards_and_the_dataset_is_whole(run: Path, given: tuple[str, ...]) -> None:
    data = Dataset(run / "dataset")
    samples = [sample for number in range(len(data.index.shards)) for sample in data.shard_samples(number)]
    assert data.index.members[-2:] == ("orig.jpg", "orig.png") and samples
    assert not list(verify(run / "dataset"))
    day = Path(next(text for text in given if text.startswith("prompts.source.folder=")).partition("=")[2])
    for sample in samples:
        assert sample.original is not None
        picture, mask = sample.original
        np.testing.assert_array_equal(mask, read_mask(day / "labels" / sample.meta["origin"]))
        drawn = read_image(day / "images" / sample.meta["origin"]).astype(int)
        assert np.abs(picture.astype(int) - drawn).mean() < 4  # JPEG
        assert (sample.mask == 254).any() and sample.meta["attempts"] >= 1
    shown = read_run(run)
    row = next(row for row in shown.images if row["outcome"] == "kept")
    assert card(shown, row)["original"].startswith("data:image")


def test_a_run_that_was_cut_goes_on_to_the_same_bytes(run: Path, given: tuple[str, ...], tmp_path: Path) -> None:
    more = (*given, "execution.unit_rows=2", "execution.batch_size=1")
    recipe, _ = begin(read_recipe("cgaug-mini", more), tmp_path / "cut")
    for name in ("prompts", "render"):
        for done, _ in enumerate(run_stage(recipe, tmp_path / "cut", name)):
            if name == "render" and done == 1:
                break
    cut = whole_run(recipe_path("cgaug-mini"), tmp_path / "cut", *more)
    tars = [name for name in digest(run / "dataset") if name.endswith(".tar")]
    assert tars and {name: digest(cut / "dataset")[name] for name in tars} == {
        name: digest(run / "dataset")[name] for name in tars
    }


def test_the_full_size_recipe_is_planned_and_asks_sam(tmp_path: Path) -> None:
    folder = tmp_path / "day"
    write_split(folder, "streets", 3, 0)
    recipe = read_recipe("cgaug", [f"prompts.source.folder={folder}"])
    assert {stage.name: stage.rows for stage in dry_run(recipe, tmp_path / "run", HERE).stages}["render"] == 3
    assert "mask_decoder" in used_backends(recipe) and "feature_extractor" not in used_backends(recipe)
