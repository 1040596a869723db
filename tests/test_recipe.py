"""Recipes: defaults, overrides, fingerprints."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synthgen import backends, lock, stages
from synthgen.errors import RecipeError
from synthgen.labels import read_label_space
from synthgen.recipe import Recipe, chosen_backends, read_recipe, recipe_path, shipped_recipes
from synthgen.settings import Section
from synthgen.shipped import shipped_folder

Tiny = Callable[..., Path]


# what ships


def test_default_recipe_ships() -> None:
    assert "syn4seg-mini" in shipped_recipes()


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_valid_and_its_data_ship_too(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.name == name
    assert recipe.title, "the list of recipes shows it"
    space = read_label_space(recipe.labels.space)
    for wanted in recipe.labels.classes:
        space.by_name(wanted)
    for role, config in chosen_backends(recipe).items():
        assert config["name"] in backends.available(role)
    if recipe.prompts.source.name == "grammar":
        assert (shipped_folder("prompts") / recipe.prompts.source.model_dump()["vocabulary"] / "grammar.yaml").is_file()
    assert (shipped_folder("data_cards") / f"{recipe.pack.card}.md").is_file()


# reading


def test_yaml_over_defaults_and_set_over_yaml(tiny: Tiny) -> None:
    path = tiny(prompts__per_class=4)
    assert read_recipe(str(path)).prompts.per_class == 4
    assert read_recipe(str(path)).prompts.class_gate is True
    recipe = read_recipe(
        str(path),
        [
            "prompts.per_class=9",
            "labels.classes=[disc, bar]",
            "pack.license_name=yes and no",
            "refine.sabr.enabled=false",
        ],
    )
    assert recipe.prompts.per_class == 9
    assert recipe.labels.classes == ("disc", "bar")
    assert recipe.pack.license_name == "yes and no"
    assert recipe.refine.sabr.enabled is False


def test_set_reaches_backend_options_and_makes_missing_sections(tiny: Tiny) -> None:
    recipe = read_recipe(str(tiny(support__folder="")), ["render.renderer.contrast=0.5", "support.drawn.seed=3"])
    assert recipe.render.renderer.model_dump()["contrast"] == 0.5
    assert recipe.support.drawn is not None and recipe.support.drawn.seed == 3


def test_lock_of_a_recipe_is_the_same_recipe(tiny: Tiny, tmp_path: Path) -> None:
    recipe = read_recipe(str(tiny()))
    lock.take(recipe, tmp_path)
    assert read_recipe(str(tmp_path / lock.LOCK)) == recipe
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_bare_names_are_shipped_ones_and_paths_are_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Tiny
) -> None:
    tiny()
    monkeypatch.chdir(tmp_path)
    assert recipe_path("tiny.yaml") == Path("tiny.yaml")
    assert recipe_path("./tiny.yaml").is_file()
    with pytest.raises(
        RecipeError,
        match=r"recipe 'tiny' is not shipped; there are: .*syn4seg-mini.* \(a path has a `/` or ends in \.yaml\)",
    ):
        recipe_path("tiny")
    with pytest.raises(
        RecipeError,
        match=r"recipe '\./tiny' is not|recipe '\./tiny': no such file; shipped recipes go by bare name: "
        r".*syn4seg-mini",
    ):
        recipe_path("./tiny")


def test_settings_have_a_description_and_cannot_be_changed_later(tiny: Tiny) -> None:
    def settings_of(section: type[Section], place: str) -> Any:
        for name, field in section.model_fields.items():
            yield f"{place}{name}", field
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                yield from settings_of(field.annotation, f"{place}{name}.")

    for place, field in settings_of(Recipe, ""):
        if place.rpartition(".")[2].endswith(
            ("lambda_apf", "lambda_div", "beta", "min_cosine", "min_margin", "band_fraction", "min_agreement")
        ):
            assert re.search(r"\[(paper|code|seed|guess)", field.description or ""), (
                f"{place}: where does the number come from?"
            )
    recipe = read_recipe(str(tiny()))
    with pytest.raises(ValueError, match="frozen"):
        recipe.prompts.per_class = 3  # type: ignore[misc]


def test_execution_is_in_no_fingerprint(tiny: Tiny) -> None:
    one = read_recipe(str(tiny()))
    other = read_recipe(
        str(tiny()),
        [
            "execution={device: auto, dtype: float32, batch_size: 2, unit_rows: 1, workers: 3, num_threads: 1, "
            "offload: true}"
        ],
    )
    assert one.execution != other.execution
    for name in stages.names():
        assert stages.settings(one, name) == stages.settings(other, name)


def test_everything_else_that_makes_pixels_is_in_some_fingerprint(tiny: Tiny) -> None:
    """Flip each setting of the recipe; some stage must notice, or be one of those that only the card tells."""
    told_only = {"name", "title", "pack.card", "pack.license", "pack.license_name", "pack.license_link"}
    told_only |= {"pack.creator", "pack.url", "pack.date_published"}
    # they count if pack.mark is c2pa
    told_only |= {"pack.c2pa.certificate", "pack.c2pa.private_key", "pack.c2pa.algorithm"}
    # where only some values are allowed
    others = {"prompts.dedup": "indexed", "support.limit": 5, "pack.date_published": "2020-02-02"}
    others |= {"refine.whitening": 0.3, "render.renew": "noise", "pack.mark": "none", "pack.c2pa.algorithm": "es384"}
    told_only |= {"refine.rounds"}  # refused without a proposer that learns: tests/refine/test_learnt.py
    path = str(tiny(labels__classes=["disc", "bar"]))
    before = read_recipe(path)
    every = {name: stages.settings(before, name) for name in stages.names()}
    unnoticed = []
    for place, value in flat(before.model_dump(mode="json")):
        # `adapt` is of `synthgen adapt`, which keeps its own record (tests/adapt/test_adapt.py)
        if place in told_only or place.startswith(("execution.", "adapt.")) or place.endswith(_NAMES):
            continue  # paths and names of backends cannot be changed at will
        after = read_recipe(path, [f"{place}={json.dumps(others.get(place) or changed(value))}"])
        assert after != before, place
        if all(stages.settings(after, name) == every[name] for name in stages.names()):
            unnoticed.append(place)
    assert unnoticed == []


_NAMES = (
    ".name",
    ".object_bank",
    ".segmenter",
    ".vocabulary",
    ".apart_from",
    ".space",
    "support.folder",
    "support.source",
    "support.split",
    ".drawn",
)


def changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return (
        round(value / 2 + 0.1, 3) if isinstance(value, float) else value[:1] if isinstance(value, list) else value + "x"
    )


def flat(node: Any, place: str = "") -> Any:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", value
