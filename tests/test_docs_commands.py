"""Every command that a document or a help text shows exists, with its options."""

from __future__ import annotations

import functools
import itertools
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from doubles.documents import PAGES, ROOT, is_recipe_key, shell_lines, spans, text_of
from typer.main import get_command

import segtrain.cli
import synthgen.cli
from synthgen.errors import RecipeError
from synthgen.recipe import read_recipe, shipped_recipes

COMMANDS = {"synthgen": get_command(synthgen.cli.app), "segtrain": get_command(segtrain.cli.app)}
TAKE_A_RECIPE = ("prompts", "render", "refine", "filter", "pack", "run", "recipes")


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
