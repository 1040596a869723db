"""How one starts: `init`, `doctor`, and the lists of what ships."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from segkit.printable import examples
from synthgen.commands.arguments import AsJson, CheckedRecipes, Sets, ShownRecipe, Trust, on_disk, one_line_errors
from synthgen.commands.stages import quiet_hubs
from synthgen.plugins import looking_only

commands = typer.Typer()
PANEL = "Start"  # under which `synthgen --help` shows them


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "synthgen init cranes.yaml --classes 'crane, bus' --support my_support",
        "synthgen init tryout.yaml --model mini --classes 'cat, bus' --count 40",
    ),
)
def init(
    recipe: Annotated[
        Path,
        typer.Argument(metavar="FILE.yaml", help="The recipe to write; nothing is overwritten", callback=on_disk),
    ],
    classes: Annotated[str, typer.Option(metavar="NAMES", help="Classes, with commas between: 'bicycle, bus'")] = "",
    support: Annotated[
        str, typer.Option(metavar="DIR", help="Folder with images/ and labels/; empty = drawings (model mini only)")
    ] = "",
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="mini, sd35-large, sd35-medium, a Hub id or a local folder")
    ] = "sd35-large",
    count: Annotated[int, typer.Option(metavar="N", min=1, help="Images to render, all classes together")] = 500,
    shots: Annotated[int, typer.Option(metavar="N", min=1, help="Labelled images per class")] = 5,
    space: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Label space of your masks: a shipped one or a YAML file; empty = written beside the recipe",
        ),
    ] = "",
) -> None:
    """Write a recipe to start from, with a comment at every setting."""
    with one_line_errors():
        from synthgen.starter import Answers, write_recipe

        names = tuple(word.strip() for word in classes.split(",") if word.strip())
        for path in write_recipe(recipe, Answers(names, support, model, count, shots, space)):
            typer.echo(f"wrote {path}")
        where = shlex.quote(str(recipe) if recipe.is_absolute() else f"./{recipe}")
        typer.echo(f"next: synthgen doctor {where}, then synthgen run {where}")


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "synthgen doctor",
        "synthgen doctor ./cranes.yaml",
        "synthgen doctor --try syn4seg --set support.folder=my_support",
        "synthgen doctor --json | jq .machine.gpus",
    ),
)
def doctor(
    recipes: CheckedRecipes = None,
    try_it: Annotated[
        bool,
        typer.Option(
            "--try", help="Make a few images and masks with each named recipe: their seconds and memory go into plans"
        ),
    ] = False,
    sets: Sets = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Say what is installed, which weights and GPUs are there, and which recipes would run.

    Exit code 1 if a named recipe would not.
    """
    with one_line_errors(), contextlib.nullcontext() if try_it else looking_only(trust):
        if try_it:
            quiet_hubs()  # before anything is imported that reads it
        from synthgen.doctor import check_recipes, lines
        from synthgen.planning.machine import machine

        here = machine()
        if try_it:
            return _try(recipes or [], sets or [], here, as_json)
        checks = check_recipes(here, tuple(recipes or ()), tuple(sets or ()))
        if as_json:
            told = {
                "machine": dataclasses.asdict(here),
                "recipes": [{**dataclasses.asdict(each), "would_run": each.would_run} for each in checks],
            }
            typer.echo(json.dumps(told, indent=1))
        else:
            typer.echo("\n".join(lines(here, checks)))
        if recipes and not all(each.would_run for each in checks):
            raise typer.Exit(1)


def _try(recipes: list[str], sets: list[str], here: Any, as_json: bool) -> None:
    """`doctor --try`."""
    from synthgen.errors import RecipeError
    from synthgen.recipe import read_recipe
    from synthgen.tryout import try_recipe

    if not recipes:
        raise RecipeError("--try: name the recipe that is to be tried, for example `synthgen doctor --try syn4seg`")
    for name in recipes:
        found, told = try_recipe(read_recipe(name, sets), here)
        typer.echo(json.dumps({"recipe": name, **dataclasses.asdict(found)}, indent=1) if as_json else "\n".join(told))


@commands.command(rich_help_panel=PANEL, epilog=examples("synthgen recipes", "synthgen recipes syn4seg > mine.yaml"))
def recipes(show: ShownRecipe = "", trust: Trust = False, as_json: AsJson = False) -> None:
    """List the shipped recipes, or print one (redirect it to a file to start your own)."""
    with one_line_errors(), looking_only(trust):
        from synthgen.recipe import read_recipe, recipe_path, shipped_recipes

        if as_json:
            chosen = [read_recipe(name) for name in ([show] if show else shipped_recipes())]
            return typer.echo(json.dumps([each.model_dump(mode="json") for each in chosen], indent=1))
        if show:
            return typer.echo(recipe_path(show).read_text(encoding="utf-8"), nl=False)
        for name in shipped_recipes():
            typer.echo(f"{name:24} {read_recipe(name).title}")


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples("synthgen backends", "synthgen backends --json | jq '.renderer.sd3.properties'"),
)
def backends(as_json: AsJson = False) -> None:
    """List the backends of every role; --json tells the options of each as well."""
    from synthgen.backends import ROLES, available, find

    if as_json:
        found = {
            role: {name: find(role, name).Options.model_json_schema() for name in available(role)} for role in ROLES
        }
        return typer.echo(json.dumps(found, indent=1))
    for role in ROLES:
        typer.echo(f"{role:18} {', '.join(available(role))}")
