"""Recipes: defaults, overrides, and one clear line that names the key for everything that cannot be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.world import recipe_of_world
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen import backends, lock, stages
from synthgen.errors import RecipeError
from synthgen.labels import read_label_space
from synthgen.recipe import Recipe, chosen_backends, read_recipe, recipe_of, recipe_path, shipped_recipes
from synthgen.settings import Section
from synthgen.shipped import shipped_folder

Tiny = Callable[..., Path]


def refused(recipe: object, *sets: str) -> str:
    with pytest.raises(RecipeError) as caught:
        read_recipe(str(recipe), sets)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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


# refusals

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "top key": ({"promts": {}}, "promts: no such setting; a recipe has: name, title, seed, labels"),
    "nested key": (
        {"render__heigth_px": 64},
        "render.heigth_px: no such setting; render has: renderer, height_px, width_px",
    ),
    "deep key": (
        {"refine__apf__lambda": 0.5},
        "refine.apf.lambda: no such setting; refine.apf has: enabled, lambda_apf, min_region_px",
    ),
    "key of an optional section": (
        {"support__drawn": {"wrold": 1}},
        "support.drawn.wrold: no such setting; support.drawn has: world, seed, size_px",
    ),
    "backend option": (
        {"render__renderer": {"name": "doubles.painter", "contrst": 2}},
        "renderer 'doubles.painter': contrst: Extra inputs are not permitted",
    ),
    "option of a shipped backend": (
        {"render__renderer": {"name": "sd3", "step": 2}},
        "renderer 'sd3': step: Extra inputs are not permitted (got 2); its keys are: model, ",
    ),
    "backend option out of range": (
        {"render__renderer": {"name": "sd3", "steps": 0}},
        "renderer 'sd3': steps: Input should be greater than or equal to 1 (got 0)",
    ),
    "unknown backend": (
        {"render__renderer": {"name": "sd4"}},
        "renderer 'sd4' is not known; there are: diffusers, images, sd3",
    ),
    "no module": (
        {"render__renderer": {"name": "doubles.sculptor"}},
        "renderer 'doubles.sculptor': no module of that name can be imported",
    ),
    "no module of a known package": (
        {"render__renderer": {"name": "dou.bles"}},
        "renderer 'dou.bles': no module of that name can be imported",
    ),
    "no backend": (
        {"render__renderer": {"name": "os.path"}},
        "renderer 'os.path': posixpath has no 'Options'; see docs/ADD_A_BACKEND.md",
    ),
    "relative module": (
        {"render__renderer": {"name": ".sd3"}},
        "renderer '.sd3' is no module name; there are: diffusers, images, sd3",
    ),
    "empty backend name": ({"render__renderer": {"name": ""}}, "renderer '' is no module name"),
    "backend without a name": ({"render__renderer": {"model": "x"}}, "render.renderer.name: is missing"),
    "backend as a word": ({"render__renderer": "sd3"}, "render.renderer: Input should be a valid dictionary"),
    "value out of range": (
        {"prompts__lambda_div": 1.5},
        "prompts.lambda_div: Input should be a number from -1 to 1, or auto (got 1.5)",
    ),
    "not a number": ({"prompts__lambda_div": float("nan")}, "cannot be read as YAML ('.nan' in line "),
    "wrong type": ({"render__height_px": "big"}, "render.height_px: Input should be a valid integer"),
    "missing section": ({"labels": {}}, "labels.space: is missing"),
    "section as a value": ({"filter": 3}, "filter: Input should be a valid dictionary"),
    "one class as a word": ({"labels__classes": "disc"}, "labels.classes: "),
    "name that is a path": ({"name": "../mine"}, "name: String should match pattern"),
    "two supports": (
        {"support__drawn": {}},
        "support: give either support.folder or support.drawn, not both",
    ),
    "key that is a number": ({"render": {3: 4}}, "render.3: Keys should be strings"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings_are_refused_by_name(tiny: Tiny, case: str) -> None:
    changes, said = BAD[case]
    path = tiny(**changes)
    assert refused(path).startswith(f"{path}: {said}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a recipe is a mapping of settings, this is NoneType"),
        ("- a", "a recipe is a mapping of settings, this is list"),
        ("name: [", "cannot be read as YAML"),
        ("name: tiny", "labels: is missing"),
        ("!!python/object/apply:os.system ['true']", "cannot be read as YAML"),
        ("\x00", "cannot be read as YAML"),
        ("\xff\xfe\x00", "cannot be read as YAML"),
    ],
)
def test_files_that_are_no_recipe(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="latin-1")
    assert refused(path).startswith(f"{path}: {said}")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("prompts.per_class", "--set 'prompts.per_class': write it as a.b=value"),
        ("=3", "--set '=3': write it as a.b=value"),
        (
            "prompts.per_class=[",
            "--set 'prompts.per_class=[': cannot be read as YAML (expected the node content, but found '<stream end>' "
            "in line 1)",
        ),
        (
            "seed=010",
            "--set 'seed=010': cannot be read as YAML ('010' in line 1 is another number in YAML (base 8 or 60): write "
            "it plainly, or in quotes if it is a text)",
        ),
        (
            "seed=2026-02-30",
            "RECIPE: seed: Input should be a valid integer, unable to parse string as an integer (got '2026-02-30')",
        ),
        (
            "support.folder=my #1 photos",
            "--set 'support.folder=my #1 photos': cannot be read as YAML ('#1 photos' would be a comment: put the "
            "value in quotes)",
        ),
        ("title=#1", "--set 'title=#1': cannot be read as YAML ('#1' would be a comment: put the value in quotes)"),
        ("prompts.per_class.x=3", "--set 'prompts.per_class.x=3': 'per_class' is a value, not a section"),
        ("name.x=3", "--set 'name.x=3': 'name' is a value, not a section"),
    ],
)
def test_bad_set_is_refused(tiny: Tiny, override: str, said: str) -> None:
    path = tiny()
    assert refused(path, override) == said.replace("RECIPE", str(path))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("promts.x=3", "promts: no such setting"),
        (".=3", ": no such setting"),
        ("prompts.per_class=0", "prompts.per_class: "),
    ],
)
def test_set_is_validated_like_the_file(tiny: Tiny, override: str, said: str) -> None:
    assert said in refused(tiny(), override)


@settings(deadline=None, max_examples=50)
@given(
    section=st.sampled_from(["", "prompts", "render", "refine", "filter", "pack", "execution", "labels", "support"]),
    key=st.sampled_from(
        [
            "name",
            "seed",
            "lambda_div",
            "renderer",
            "apf",
            "rules",
            "classes",
            "folder",
            "batch_size",
            "x",
            "drawn",
            "space",
        ]
    ),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from(["name", "world", "x"]) | st.integers(), inner, max_size=2)
        ),
    ),
)
def test_no_value_at_any_place_ends_in_a_traceback(world: Path, section: str, key: str, value: Any) -> None:
    raw = recipe_of_world(world)
    (raw.setdefault(section, {}) if section else raw)[key] = value
    try:
        recipe_of(raw, "here")
    except RecipeError as error:
        assert re.match(r"here: \S", str(error)) and "\n" not in str(error)


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


@pytest.mark.parametrize("place", ["seed", "name", "prompts", "render"])
def test_ten_lines_of_aliases_do_not_hang_a_recipe(tmp_path: Path, place: str) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    path = tmp_path / "r.yaml"
    path.write_text("\n".join([*lines, f"{place}: *a9"]))
    assert refused(path) == f"{path}: cannot be read as YAML (alias *a0 in line 2: write the value out)"


def test_a_key_that_occurs_twice_is_refused(tiny: Tiny) -> None:
    path = tiny()
    path.write_text(path.read_text() + "seed: 4\n")
    assert "key 'seed' occurs twice, again in line" in refused(path)
