"""Recipes that are refused: one clear line names the key and the way out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.world import recipe_of_world
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.errors import RecipeError
from synthgen.recipe import read_recipe, recipe_of

Tiny = Callable[..., Path]


def refused(recipe: object, *sets: str) -> str:
    with pytest.raises(RecipeError) as caught:
        read_recipe(str(recipe), sets)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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
