"""Keys, seeds and bytes follow from content: the same maps and photographs give the same dataset wherever they lie."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles.runs import digest, whole_run
from doubles.world import paint
from PIL import Image

from segkit.shards import Dataset
from synthgen import pipeline, stages
from synthgen.errors import InputError, RunError
from synthgen.export.run import export
from synthgen.images import read_image, read_mask, write_image
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


def test_the_card_of_maps_tells_of_no_comparison(maps: Path, tiny: Tiny, tmp_path: Path) -> None:
    """All maps are kept whatever their sentences: two with one sentence are two images."""
    run = whole_run(from_maps(tiny, maps), tmp_path / "run")
    text = (run / "dataset" / "README.md").read_text()
    assert "none was refused for being like another" in text and "greatest cosine" not in text


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


def test_masks_of_photographs_come_back_under_their_names_and_at_their_size(
    maps: Path, tiny: Tiny, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    (folder / "sub dir").mkdir(parents=True)
    shutil.copy(maps / "images" / "0.png", folder / "holiday 12.png")
    shutil.copy(maps / "images" / "1.png", folder / "sub dir" / "a.b.png")
    shutil.copy(maps / "images" / "2.png", folder / "twice.png")
    with Image.open(maps / "images" / "0.png") as image:
        image.resize((91, 77)).save(folder / "twice.jpg", quality=95)
    recipe = tiny(
        prompts__source={"name": "images", "folder": str(folder), "recursive": True},
        render__renderer={"name": "images", "longest_side_px": 24},
        filter__rules=ALL,
    )
    run = whole_run(recipe, tmp_path / "run")
    export(run, "photographs", tmp_path / "out")
    found = {str(p.relative_to(tmp_path / "out" / "labels")): p for p in (tmp_path / "out" / "labels").rglob("*.png")}
    assert set(found) == {"holiday 12.png", "sub dir/a.b.png", "twice.png.png", "twice.jpg.png"}
    assert read_mask(found["twice.jpg.png"]).shape == (77, 91)
    by_origin = {sample.meta["origin"]: sample for sample in Dataset(run / "dataset")}
    mask, size = read_mask(found["holiday 12.png"]), by_origin["holiday 12.png"].mask.shape
    assert max(size) == 24 and mask.shape == read_image(folder / "holiday 12.png").shape[:2]
    rows, columns = ((np.arange(n) * m) // n for n, m in zip(mask.shape, size, strict=True))
    centres = mask[:: mask.shape[0] // 8, :: mask.shape[1] // 8]
    assert set(np.unique(centres)) <= set(np.unique(by_origin["holiday 12.png"].mask))
    assert (mask == by_origin["holiday 12.png"].mask[np.ix_(rows, columns)]).mean() > 0.9
    lines = [json.loads(line) for line in (tmp_path / "out" / "labels.jsonl").read_text().splitlines()]
    assert {(line["photograph"], line["label"]) for line in lines} >= {("sub dir/a.b.png", "sub dir/a.b.png")}
    with pytest.raises(InputError, match="was not made of a photograph"):
        export(Path(__file__).parent / "golden" / "shards", "photographs", tmp_path / "none")


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

    def recipe(source: dict[str, Any]) -> Path:
        return tiny(
            prompts__source=source,
            refine__proposer={"name": "layout"},
            filter__rules=ALL,
            render__renderer={"name": "doubles.painter"},
        )

    run = whole_run(recipe(source), tmp_path / "run")
    rows = list(stages.stages(run)["prompts"].rows())
    assert len(rows) == 3
    for row in rows:
        kept, own = run / row.control_image, maps / "images" / row.origin
        assert kept.is_file() and (read_image(kept) == read_image(own)).all()
    assert len({row.control_image for row in rows}) == 2, "two of the three are alike"
    before = digest(run / "dataset")
    moved = maps.rename(tmp_path / "moved")
    whole_run(recipe(source | {"folder": str(moved), "control_images": str(moved / "images")}), run)
    assert digest(run / "dataset") == before, "where the folders lie makes no other run"
