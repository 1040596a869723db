"""Places in a recipe are relative to the recipe; `prompts.embedder` is the renderer's own unless it is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from synthgen import lock as lock_module
from synthgen.labels import read_label_space
from synthgen.models.sharing import shares_text
from synthgen.recipe import Recipe, read_recipe
from synthgen.starter import Answers, write_recipe

LARGE = "stabilityai/stable-diffusion-3.5-large"
MEDIUM = "stabilityai/stable-diffusion-3.5-medium"


def write(folder: Path, **sections: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "labels": {"space": "voc"}, **sections}))
    return path


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that is not the recipe's."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


# places


def test_a_recipe_from_init_is_read_from_any_folder(elsewhere: Path) -> None:
    (elsewhere / "elsewhere" / "shots").mkdir()
    write_recipe(Path("../cranes.yaml"), Answers(("crane", "excavator"), "shots"))
    text = (elsewhere / "cranes.yaml").read_text()
    assert '"cranes.labels.yaml"' in text and '"elsewhere/shots"' in text
    for name in ("../cranes.yaml", str(elsewhere / "cranes.yaml")):
        recipe = read_recipe(name)
        assert read_label_space(recipe.labels.space).by_name("crane").id == 1
        assert Path(recipe.support.folder).samefile(elsewhere / "elsewhere" / "shots")


def test_what_lies_beside_a_recipe_is_found_there_and_names_stay_names(elsewhere: Path) -> None:
    home = elsewhere / "home"
    path = write(
        home,
        labels={"space": "sub/mine.labels.yaml"},
        support={"folder": "shots"},
        prompts={"source": {"name": "file", "path": "prompts.txt"}},
        render={"renderer": {"name": "sd3", "model": "models/mine", "controlnet": LARGE}},
        refine={"mask_decoder": {"name": "segment_anything", "model": "sam.pth", "kind": "vit_b"}},
    )
    for place in ("shots", "models/mine", "voc", "sub"):
        (home / place).mkdir(parents=True)
    for place in ("sub/mine.labels.yaml", "prompts.txt", "sam.pth"):
        (home / place).write_text("")
    recipe = read_recipe(str(path))
    assert recipe.labels.space == str(home / "sub/mine.labels.yaml")
    assert recipe.support.folder == str(home / "shots")
    assert recipe.prompts.source.model_dump()["path"] == str(home / "prompts.txt")
    assert recipe.render.renderer.model_dump()["model"] == str(home / "models/mine")
    assert recipe.render.renderer.model_dump()["controlnet"] == LARGE
    assert recipe.refine.mask_decoder.model_dump()["model"] == str(home / "sam.pth")
    plain = read_recipe(str(write(home)))
    assert plain.labels.space == "voc", "a folder of a shipped name is not it"


def test_the_places_of_a_run_are_not_taken_for_its_own_folders(elsewhere: Path) -> None:
    here, run = elsewhere / "elsewhere", elsewhere / "elsewhere" / "runs" / "mine"
    for folder in (here, run):
        (folder / "dataset").mkdir(parents=True)
    path = write(here, support={"folder": "dataset"})
    lock = run / "recipe.lock.yaml"
    lock.write_text(lock_module._text(read_recipe(f"./{path.name}")))
    assert read_recipe("runs/mine/recipe.lock.yaml").support.folder == "dataset"
    (here / "dataset").rename(run / "shots")
    lock.write_text(lock.read_text().replace("folder: dataset", "folder: shots"))
    assert read_recipe(str(lock)).support.folder == str(run / "shots"), "a lock that has come along with its data"


def test_what_does_not_lie_beside_it_is_below_the_working_directory(elsewhere: Path) -> None:
    (elsewhere / "elsewhere" / "shots").mkdir()
    path = write(elsewhere / "home", support={"folder": "shots"})
    assert read_recipe(str(path)).support.folder == "shots"
    (elsewhere / "home" / "shots").mkdir()
    assert read_recipe(str(path)).support.folder == str(elsewhere / "home" / "shots")
    assert read_recipe(str(path), ["support.folder=shots"]).support.folder == "shots", "--set is the caller's"


# the embedder


def embedder(path: Path, *sets: str) -> dict[str, Any]:
    return read_recipe(str(path), list(sets)).prompts.embedder.model_dump()


def test_the_embedder_is_the_renderers_own_unless_it_is_named(tmp_path: Path) -> None:
    for prompts in ({}, {"embedder": None}):
        path = write(tmp_path, prompts=prompts, render={"renderer": {"name": "sd3", "model": MEDIUM, "t5": False}})
        recipe = read_recipe(str(path))
        assert embedder(path) == {"name": "sd3", "model": MEDIUM, "t5": False}
        assert shares_text(recipe)
        assert shares_text(Recipe.model_validate_json(recipe.model_dump_json()))
        moved = read_recipe(str(path), [f"render.renderer.model={LARGE}"])
        assert moved.prompts.embedder.model_dump()["model"] == LARGE and shares_text(moved)
    named = write(tmp_path / "named", prompts={"embedder": {"name": "clip"}})
    assert embedder(named) == {"name": "clip"}
    partly = embedder(path, "prompts.embedder.pooled=t5")
    assert partly == {"name": "sd3", "model": MEDIUM, "t5": False, "pooled": "t5"}


def test_a_renderer_that_has_no_text_encoder_leaves_the_default(tmp_path: Path) -> None:
    assert embedder(write(tmp_path, render={"renderer": {"name": "images"}})) == {"name": "sd3"}
