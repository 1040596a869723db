"""The worked examples of docs/ADD_A_BACKEND.md run, and its table says what a backend may say."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from doubles.documents import ROLE_OF, ROOT, fences, text_of

from synthgen.backends import cost, load
from synthgen.errors import RecipeError
from synthgen.images import read_mask
from synthgen.models.sizes import Encoder
from synthgen.planning.speeds import gpu_hours
from synthgen.recipe import read_recipe
from synthgen.stages import stages

EXAMPLES = "docs/ADD_A_BACKEND.md"
_EXAMPLE = re.compile(r"^`my_backends/(\w+)\.py`, an? [\w ]+:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Every example's file where the page says that it lies; gives the recipe's settings that the page names them
    by."""
    [settings] = fences(EXAMPLES, "yaml")
    sources = dict(_EXAMPLE.findall(text_of(EXAMPLES)))
    assert len(sources) == len(fences(EXAMPLES, "python")), "an example without its place"
    folder = tmp_path / "my_backends"
    folder.mkdir()
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield yaml.safe_load(settings)
    for name in [name for name in sys.modules if name.split(".")[0] == "my_backends"]:
        del sys.modules[name]


def settings_of(examples: dict[str, Any]) -> dict[str, Any]:
    """The examples' recipe as changes of the tiny one."""
    return {f"{section}__{key}": value for section, part in examples.items() for key, value in part.items()}


def test_the_examples_of_all_roles_make_a_dataset(
    examples: dict[str, Any], tiny: Callable[..., Path], cli: Callable[..., Any], tmp_path: Path
) -> None:
    chosen = {key: examples[key.split(".")[0]][key.split(".")[1]]["name"] for key in ROLE_OF}
    assert set(chosen) == set(ROLE_OF) and all(name.startswith("my_backends.") for name in chosen.values())
    result = cli("run", tiny(**settings_of(examples), prompts__per_class=3))
    assert result.exit_code == 0, result.output
    made = stages(tmp_path / "runs" / "tiny")
    places = examples["prompts"]["source"]["places"]
    prompts = {(row.subject.prompt, row.subject.class_name, row.subject.attributes) for row in made["prompts"].rows()}
    spoken = {"disc": "a coin", "square": "a square", "bar": "a bar"}
    assert prompts >= {
        (f"a photo of {word} {place}", name, (f"place={place}",)) for name, word in spoken.items() for place in places
    }
    kept = list(made["filter"].rows())
    assert {row.subject.class_name for row in kept} == set(spoken)
    masks = {row.key: read_mask(tmp_path / "runs" / "tiny" / row.labelling.mask) for row in kept}
    dot_px = np.pi * 7**2
    for row in kept:
        assert (masks[row.key] == row.subject.class_id).sum() == pytest.approx(dot_px, rel=0.15), "the mask is the dot"
        made = row.picture
        assert (made.renderer, made.model_revision, made.steps, made.guidance) == ("dots", "", 0, 0.0)


def test_the_dry_run_says_what_the_examples_say_of_themselves(
    examples: dict[str, Any], tiny: Callable[..., Path], cli: Callable[..., Any]
) -> None:
    plan = json.loads(cli("run", tiny(**settings_of(examples)), "--dry-run", "--trust", "--json").stdout)
    assert [name.split(".")[-1] for name in plan["unknown"]] == [
        "places",
        "letters",
        "cells",
        "nearest",
        "middle",
        "shades",
    ]
    operations = {stage["name"]: stage["operations"] for stage in plan["stages"]}
    assert operations["render"] == 10 * 32 * 32 * 12 and operations["refine"] is None
    assert plan["core_hours"] is None and plan["memory_gb"] is None


def test_a_misspelt_option_of_an_example_is_refused_in_one_line(
    examples: dict[str, Any], tiny: Callable[..., Path], cli: Callable[..., Any]
) -> None:
    source = {**examples["prompts"]["source"], "place": ["here"]}
    result = cli("prompts", tiny(prompts__source=source))
    assert result.exit_code == 2
    assert "place: Extra inputs are not permitted" in result.output and "its keys are: places" in result.output
    assert len(result.output.strip().splitlines()) == 1


BY_OPERATIONS = re.compile(r"by operations about (\d+)(?:-(\d+))? s an? \w+ on one H100")


@pytest.mark.parametrize("name", ["cgaug", "clouds", "flexseg", "syn4seg"])
def test_seconds_by_operations_in_a_recipe_are_those_of_the_plan(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    adapted = Encoder(1.2e9, 0.0, 0.0)  # a ControlNet of half of SD3.5-Medium's blocks, as `synthgen adapt` makes it
    monkeypatch.setattr("synthgen.models.costs.controlnet_of", lambda model: adapted)
    [(least, most)] = BY_OPERATIONS.findall(text_of(f"pipelines/{name}.yaml"))
    recipe = read_recipe(name)
    size_px = recipe.render.height_px, recipe.render.width_px
    plan = cost("renderer", recipe.render.renderer.model_dump(), size_px, recipe.execution)
    assert plan is not None and plan.operations is not None
    seconds = 3600 * gpu_hours(plan.operations)["H100"]
    assert int(least) - 0.5 <= seconds <= int(most or least) + 0.5


def asked_of_backends() -> set[str]:
    """Names of the functions that `statement` calls."""
    calls = [
        node
        for path in (ROOT / "synthgen").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "statement"
    ]
    return {call.args[2].value for call in calls if isinstance(call.args[2], ast.Constant)}


def test_what_a_backend_may_say_of_itself_stands_in_the_table_and_nothing_else() -> None:
    table = text_of(EXAMPLES).partition("## What a backend says of itself")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)\(options", table, re.MULTILINE)) == asked_of_backends()


@pytest.mark.parametrize("key", ROLE_OF)
def test_an_object_that_lacks_what_its_role_has_is_refused_in_one_line(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hollow.py").write_text(
        "from pydantic import BaseModel\nclass Options(BaseModel): pass\nclass Hollow: id = 'h'\n"
        "def build(options, execution): return Hollow()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "somebody").mkdir()
    (tmp_path / "hollow.py").rename(tmp_path / "somebody" / "hollow.py")
    [row] = [line for line in text_of(EXAMPLES).splitlines() if line.startswith(f"| `{key}`")]
    names = [span.split("(")[0] for span in re.findall(r"`([^`]+)`", row.split("|")[3])]
    with pytest.raises(RecipeError) as error:
        load(ROLE_OF[key], {"name": "somebody.hollow"}, None)
    for name in ("somebody", "somebody.hollow"):
        sys.modules.pop(name, None)
    lacking = str(error.value).partition("lacks ")[2].partition(";")[0].split(", ")
    assert lacking == [name for name in names if name != "id"] and "\n" not in str(error.value)
