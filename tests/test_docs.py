"""What the documents name exists: files, functions, recipe keys, commands and their options, links;

and the worked examples run.
"""

from __future__ import annotations

import ast
import functools
import itertools
import json
import re
import shlex
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from pydantic import BaseModel
from typer.main import get_command

import segtrain.cli
import synthgen.cli
from synthgen.backends import ROLES, available, cost, find, load
from synthgen.errors import RecipeError
from synthgen.images import read_mask
from synthgen.models.sizes import Encoder
from synthgen.planning.speeds import gpu_hours
from synthgen.recipe import Recipe, chosen_backends, read_recipe, shipped_recipes
from synthgen.settings import Backend
from synthgen.stages import stages

ROOT = Path(__file__).resolve().parent.parent
DOCS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
PAGES = ("README.md", "CHANGELOG.md", *(page for page in DOCS if page != "docs/LOG.md"))  # a log may name what is gone
COMMANDS = {"synthgen": get_command(synthgen.cli.app), "segtrain": get_command(segtrain.cli.app)}
TAKE_A_RECIPE = ("prompts", "render", "refine", "filter", "pack", "run", "recipes")

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_PLACE = re.compile(
    r"(?:synthgen|segtrain|segkit|tests|docs|benchmarks|prompts|pipelines|data_cards)/[\w./-]*(?::[\w.]+)?"
)
_KEY = re.compile(rf"(?:{'|'.join(Recipe.model_fields)})(?:\.[a-z0-9_]+)+")


@functools.cache
def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def fences(page: str, language: str) -> list[str]:
    return [body for kind, body in _FENCE.findall(text_of(page)) if kind == language]


def spans(page: str) -> list[str]:
    return [" ".join(span.split()) for span in _SPAN.findall(_FENCE.sub("", text_of(page)))]


def found(pattern: re.Pattern[str]) -> list[Any]:
    """(page, span) of every code span that is such a thing as a whole."""
    return [
        pytest.param(page, span, id=f"{Path(page).stem}-{span}")
        for page in PAGES
        for span in dict.fromkeys(spans(page))
        if pattern.fullmatch(span)
    ]


# places


def names_in(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign):
            yield from ((target.id, node) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node


def why_missing(place: str) -> str:
    """What is wrong with `file` or `file:name` or `file:Class.name`; "" if it is there."""
    path, _, dotted = place.partition(":")
    if not (ROOT / path).exists():
        return f"no file {path}"
    node: Any = ast.parse((ROOT / path).read_text(encoding="utf-8")) if dotted else None
    for name in filter(None, dotted.split(".")):
        inside = dict(names_in(getattr(node, "body", [])))
        if name not in inside:
            return f"{path} has no {dotted}"
        node = inside[name]
    return ""


@pytest.mark.parametrize(("page", "place"), found(_PLACE))
def test_a_place_that_a_document_names_exists(page: str, place: str) -> None:
    assert not why_missing(place), f"{page}: {why_missing(place)}"


def test_a_place_that_does_not_exist_is_noticed() -> None:
    assert not why_missing("synthgen/prompts/dedup.py:GreedyBank.offer")
    for wrong in (
        "synthgen/nothing.py",
        "synthgen/prompts/dedup.py:nothing",
        "synthgen/prompts/dedup.py:GreedyBank.nothing",
    ):
        assert why_missing(wrong)


def test_every_row_of_the_map_of_what_is_built_names_a_place() -> None:
    built = text_of("docs/PAPER_MAP.md").partition("## Not built yet")[0]
    rows = [
        [cell.strip() for cell in line[1:-1].split("|")]
        for line in built.splitlines()
        if line.startswith("|") and not line.startswith("|---")
    ]
    assert len(rows) > 30
    for row in rows:
        assert len(row) == 5, row
        if "where in the code" not in row[2]:
            assert any(_PLACE.fullmatch(span) for span in _SPAN.findall(row[2])), row
            assert row[4], row


# recipe keys

ROLE_OF = {
    "prompts.source": "prompt_source",
    "prompts.embedder": "text_encoder",
    "render.compose": "composer",
    "render.renderer": "renderer",
    "refine.features": "feature_extractor",
    "refine.proposer": "proposer",
    "refine.mask_decoder": "mask_decoder",
    "filter.scorer": "image_scorer",
}


def is_recipe_key(key: str) -> bool:
    """Whether the recipe has the key; below a backend, whether any shipped backend of that role has the option."""
    section: Any = Recipe
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if section is Backend:
            options = [
                find(role, name).Options for role in [ROLE_OF[".".join(parts[:depth])]] for name in available(role)
            ]
            return len(parts) == depth + 1 and (part == "name" or any(part in each.model_fields for each in options))
        if not (isinstance(section, type) and issubclass(section, BaseModel)) or part not in section.model_fields:
            return False
        kind = section.model_fields[part].annotation
        section = next(
            (each for each in typing.get_args(kind) if isinstance(each, type) and issubclass(each, BaseModel)), kind
        )
    return True


@pytest.mark.parametrize(("page", "key"), found(_KEY))
def test_a_recipe_key_that_a_document_names_exists(page: str, key: str) -> None:
    assert key.endswith(".yaml") or is_recipe_key(key), f"{page}: no recipe key {key}"


def test_a_recipe_key_that_does_not_exist_is_noticed() -> None:
    assert set(ROLE_OF.values()) == set(ROLES) == set(chosen_backends(read_recipe("syn4seg-mini")))
    for right in (
        "refine.sabr.band_fraction",
        "support.drawn.size_px",
        "render.renderer.guidance",
        "refine.proposer.name",
    ):
        assert is_recipe_key(right)
    for wrong in (
        "refine.sabr.width",
        "refine.sabr.enabled.more",
        "render.renderer.guidence",
        "render.renderer.steps.more",
    ):
        assert not is_recipe_key(wrong)


# commands


def shell_lines(page: str) -> list[str]:
    """Lines of every shell block; one that ends in a backslash goes on in the next."""
    return [line for block in fences(page, "sh") for line in block.replace("\\\n", " ").splitlines()]


def command_lines(page: str) -> Iterator[list[str]]:
    """Tokens of every line of a shell block, and of every code span that is a command."""
    lines = shell_lines(page)
    lines += [
        span
        for span in spans(page)
        if span.split(" ")[0] in (*COMMANDS, "make", "python", "accelerate") and " " in span
    ]
    for line in lines:
        tokens = shlex.split(line, comments=True)
        while tokens and re.fullmatch(r"[A-Z_]+=.*", tokens[0]):
            tokens.pop(0)
        if tokens:
            yield tokens


@functools.cache
def below(group: Any, name: str) -> Any:
    """A command of a group, whole: segtrain's methods are built when they are called."""
    return group.resolve_command(typer.Context(group), [name])[1]


def why_no_command(tokens: list[str]) -> str:
    """What is wrong with a command line; "" if every word that can be checked is right."""
    if tokens[0] == "accelerate":
        tokens = tokens[tokens.index("-m") + 1 :]
    if tokens[0] == "make":
        missing = [
            word
            for word in tokens[1:]
            if "=" not in word and not re.search(rf"^{word}:", text_of("Makefile"), re.MULTILINE)
        ]
        return f"make has no target {missing[0]}" if missing else ""
    if tokens[0] == "python":
        place = ROOT / tokens[tokens.index("-m") + 1].replace(".", "/")
        return (
            "" if place.with_suffix(".py").is_file() or (place / "__main__.py").is_file() else f"no module {place.name}"
        )
    if tokens[0] not in COMMANDS:
        return ""  # the shell's own
    command: Any = COMMANDS[tokens[0]]
    rest = tokens[1:]
    while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            return f"{command.name or tokens[0]} has no command {rest[0]}"
        command = below(command, rest.pop(0))
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {
        "--help"
    }
    unknown = [word for word in rest if word.startswith("-") and word.split("=")[0] not in options]
    if unknown:
        return f"{command.name} has no option {unknown[0]}"
    for option, value in itertools.pairwise(rest):
        if option == "--set" and not is_recipe_key(value.split("=")[0]):
            return f"no recipe key {value}"
    if command.name in TAKE_A_RECIPE and rest and re.fullmatch(r"[a-z0-9][a-z0-9-]*", rest[0]):
        if rest[0] not in shipped_recipes():
            return f"no shipped recipe {rest[0]}"
        settings = [
            value
            for option, value in itertools.pairwise(rest)
            if option == "--set" and not re.search(r"=\w*[A-Z]{2}|\.\.\.", value)
        ]
        try:
            read_recipe(rest[0], settings)
        except RecipeError as error:
            return str(error)
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_document_exists_with_its_options(page: str) -> None:
    problems = [f"{shlex.join(tokens)}: {why}" for tokens in command_lines(page) if (why := why_no_command(tokens))]
    assert not problems, "\n".join(problems)


def with_subcommands(program: str) -> list[str]:
    """Every command by its words: `segtrain few-shot base`."""
    group: Any = COMMANDS[program]
    return [
        f"{program} {name}{'' if sub is None else f' {sub}'}"
        for name in group.commands
        for sub in getattr(below(group, name), "commands", [None])
    ]


@pytest.mark.parametrize("words", [*with_subcommands("synthgen"), *with_subcommands("segtrain")])
def test_every_command_shows_examples_that_are_right(words: str) -> None:
    program, *path = words.split()
    command: Any = COMMANDS[program]
    for name in path:
        command = below(command, name)
    first, *lines = command.epilog.replace("\\[", "[").splitlines()
    assert first == "Examples:" and lines
    for line in lines:
        tokens = shlex.split(line.partition(" | ")[0].partition(" > ")[0], comments=True)
        assert tokens[: len(path) + 1] == words.split() and not why_no_command(tokens), (
            f"{line}: {why_no_command(tokens)}"
        )
        assert len(line.strip()) <= 78, f"{line}: would be broken on a terminal of 80 columns"


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert any(tokens[:2] == ["synthgen", "run"] for tokens in command_lines("README.md"))
    assert not why_no_command(["synthgen", "run", "syn4seg", "--set", "support.shots=1", "--redo", "filter"])
    for wrong in (
        "synthgen bake syn4seg",
        "synthgen run syn4seg --quickly",
        "synthgen run syn5seg",
        "synthgen run syn4seg --set suport.shots=1",
        "synthgen run syn4seg --set support.shots=none",
        "synthgen run syn4seg-mini --set support.folder=mine",
        "segtrain train --date x",
        "segtrain few-shot old",
        "make datasets",
        "python -m synthgen.nothing",
    ):
        assert why_no_command(wrong.split()), wrong


# links


@pytest.mark.parametrize("page", [*PAGES, "docs/LOG.md"])
def test_relative_links_lead_somewhere(page: str) -> None:
    for link in _LINK.findall(_FENCE.sub("", text_of(page))):
        if re.match(r"[a-z]+:|#", link):
            continue
        assert ((ROOT / page).parent / link.partition("#")[0]).exists(), f"{page}: {link}"


# what is measured, and what there is to read

BENCHMARKED = {"few-shot": "gfss", "flex-seg": "flexseg", "multi-shift": "cgaug", "clouds": "clouds", "iccld": "iccld"}


def is_measured(command: str) -> bool:
    """Whether results.csv has rows of `segtrain COMMAND`."""
    return re.search(rf"^{BENCHMARKED[command]}/", text_of("benchmarks/results.csv"), re.MULTILINE) is not None


@pytest.mark.parametrize("command", BENCHMARKED)
def test_not_measured_is_said_of_methods_without_a_row_alone(command: str) -> None:
    sections = [part for part in text_of("docs/PAPER_MAP.md").split("\n## ") if f"`segtrain {command}`" in part]
    papers = text_of("README.md").partition("## Papers\n")[2].partition("\n## ")[0]
    [line] = [line for line in papers.splitlines() if f"`segtrain {command}`" in line]
    said = [part for part in (line, sections[0]) if re.search("not measured|Nothing is measured", part)]
    assert bool(said) != is_measured(command), said or f"{command} has no row and nobody says so"


def test_the_readme_lists_every_page() -> None:
    listed = text_of("README.md").partition("## Files\n")[2].partition("\n## ")[0].split()
    assert {Path(page).name for page in DOCS} <= set(listed)


# the examples of docs/ADD_A_BACKEND.md

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
