"""Keys, seeds and bytes follow from content: the same maps and photographs give the same dataset wherever they lie."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.runs import digest, whole_run
from doubles.world import paint

from segkit.shards import Dataset
from synthgen import pipeline, stages
from synthgen.errors import RunError
from synthgen.images import read_image, write_image
from synthgen.recipe import read_recipe

Tiny = Callable[..., Path]
ALL = {"min_class_fraction": 0.0, "min_labelled_fraction": 0.0, "min_pixel_std": 0.0}


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """Label maps with their pictures, one of them twice."""
    folder = tmp_path / "maps"
    for number, name in enumerate(("disc", "bar", "disc")):
        image, mask = paint(name, 40)
        for part, array in (("images", image), ("labels", mask)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            write_image(array, folder / part / f"{number}.png")
    return folder


def from_maps(tiny: Tiny, folder: Path) -> Path:
    source = {"name": "layouts", "folder": str(folder), "sentence": "a disc, {things} {domain}", "unnamed": []}
    changes: dict[str, Any] = {"prompts__source": source, "refine__proposer": {"name": "layout"}}
    return tiny(**changes, filter__rules=ALL, render__renderer={"name": "doubles.painter"})


def from_photographs(tiny: Tiny, folder: Path) -> Path:
    return tiny(
        prompts__source={"name": "images", "folder": str(folder)},
        render__renderer={"name": "images"},
        filter__rules=ALL,
    )


@pytest.mark.parametrize("kind", ["maps", "photographs"])
def test_another_folder_gives_the_same_dataset(kind: str, maps: Path, tiny: Tiny, tmp_path: Path) -> None:
    make, folder = (from_maps, maps) if kind == "maps" else (from_photographs, maps / "images")
    one = whole_run(make(tiny, folder), tmp_path / "one")
    shutil.move(maps, tmp_path / "somewhere" / "else")
    moved = tmp_path / "somewhere" / "else" / folder.relative_to(maps)
    other = whole_run(make(tiny, moved), tmp_path / "other")
    assert digest(one / "dataset") == digest(other / "dataset")
    assert len(list(Dataset(one / "dataset"))) == (3 * 5 if kind == "maps" else 3), "copies of one file are kept, too"


@pytest.mark.parametrize("kind", ["maps", "photographs"])
def test_a_sample_names_the_file_that_it_was_made_from(kind: str, maps: Path, tiny: Tiny, tmp_path: Path) -> None:
    recipe = from_maps(tiny, maps) if kind == "maps" else from_photographs(tiny, maps / "images")
    run = whole_run(recipe, tmp_path / "run")
    origins = {sample.meta["origin"] for sample in Dataset(run / "dataset")}
    assert origins == {"0.png", "1.png", "2.png"}


def test_no_row_of_any_stage_holds_an_absolute_path(maps: Path, tiny: Tiny, tmp_path: Path) -> None:
    for kind, recipe in (("maps", from_maps(tiny, maps)), ("photos", from_photographs(tiny, maps / "images"))):
        run = whole_run(recipe, tmp_path / f"run-{kind}")
        for stage in stages.stages(run).values():
            assert str(tmp_path) not in repr(stage.rows()), stage.name


def test_a_run_goes_on_without_the_folder_of_its_maps(maps: Path, tiny: Tiny, tmp_path: Path) -> None:
    path = from_maps(tiny, maps)
    undisturbed = whole_run(path, tmp_path / "undisturbed")
    recipe, run = read_recipe(str(path)), tmp_path / "run"
    for _ in pipeline.run_stage(recipe, run, "prompts"):
        pass
    fingerprint = stages.settings(recipe, "prompts")
    hidden = maps.with_name("hidden")
    maps.rename(hidden)
    layouts = [row.layout for row in stages.stages(run)["prompts"].rows()]
    assert all((run / layout).is_file() for layout in layouts)
    hidden.rename(maps)
    assert stages.settings(recipe, "prompts") == fingerprint
    shutil.rmtree(maps / "images")
    (maps / "images").mkdir()
    for number in range(3):
        write_image(paint("bar", number)[0], maps / "images" / f"{number}.png")
    for name in stages.names():
        for _ in pipeline.run_stage(recipe, run, name):
            pass
    assert digest(run / "dataset") == digest(undisturbed / "dataset"), "the pictures beside the maps are not used"


def test_the_input_is_read_once_for_all_stages_and_its_pictures_never(
    maps: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, opened = from_maps(tiny, maps), []
    hashed = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: opened.append(file.name) or hashed(file, kind))
    run = whole_run(recipe, tmp_path / "run")
    of_maps = sorted(Path(name) for name in opened if Path(name).is_relative_to(maps))
    assert of_maps == sorted((maps / "labels").iterdir())
    opened.clear()
    whole_run(recipe, run)
    assert not opened, "nothing has changed"
    write_image(paint("bar", 41)[1], maps / "labels" / "1.png")
    with pytest.raises(RunError, match="made with"):
        whole_run(recipe, run)


def test_other_content_gives_other_keys(maps: Path, tiny: Tiny, tmp_path: Path) -> None:
    before = whole_run(from_maps(tiny, maps), tmp_path / "before")
    write_image(paint("bar", 41)[1], maps / "labels" / "1.png")
    after = whole_run(from_maps(tiny, maps), tmp_path / "after")
    keys = [{sample.meta["origin"]: sample.key for sample in Dataset(run / "dataset")} for run in (before, after)]
    assert {name for name in keys[0] if keys[0][name] != keys[1][name]} == {"1.png"}


def test_pictures_beside_the_maps_become_artefacts_of_the_run(maps: Path, tiny: Tiny, tmp_path: Path) -> None:
    """The picture goes with its map to the renderer, and the user's folder is not needed any more."""
    source = {"name": "layouts", "folder": str(maps), "control_images": str(maps / "images"), "domains": ["at night"]}
    source |= {"sentence": "a disc, {things} {domain}", "unnamed": []}
    recipe = tiny(
        prompts__source=source,
        refine__proposer={"name": "layout"},
        filter__rules=ALL,
        render__renderer={"name": "doubles.painter"},
    )
    run = whole_run(recipe, tmp_path / "run")
    rows = list(stages.stages(run)["prompts"].rows())
    assert len(rows) == 3
    for row in rows:
        kept, own = run / row.control_image, maps / "images" / row.origin
        assert kept.is_file() and (read_image(kept) == read_image(own)).all()
    assert len({row.control_image for row in rows}) == 2, "two of the three are alike"
