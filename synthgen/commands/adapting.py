"""A generator of one's own: `adapt`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from segkit.printable import examples
from synthgen.commands.arguments import AsJson, Sets, on_disk, one_line_errors
from synthgen.commands.stages import quiet_hubs

commands = typer.Typer()
PANEL = "Make a dataset"


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "synthgen adapt --data my_labelled_set --out models/mine --dry-run",
        "synthgen adapt --data my_labelled_set --out models/mine",
        "synthgen adapt --data my_set --out mine --base models/my_sd3",
        "synthgen adapt streets-mini --data runs/day --out models/day",
    ),
)
def adapt(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="[RECIPE]", help="Whose renderer, size and section `adapt` to use; default: SD3.5-Medium"
        ),
    ] = "",
    data: Annotated[
        str, typer.Option("--data", metavar="DIR", help="Labelled folder: images/, labels/, labels.yaml")
    ] = "",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="MODEL", help="A new folder for the model", callback=on_disk)
    ] = None,
    base: Annotated[str, typer.Option("--base", metavar="MODEL", help="Model of the SD3 kind that is adapted")] = "",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Say what it would take, and what is missing (then exit code 1); nothing is made"
        ),
    ] = False,
    as_json: AsJson = False,
    sets: Sets = None,
) -> None:
    """Teach a generator your own label maps: a ControlNet, and a LoRA of your pictures' look, for SD3-type models.

    Stopped or killed, the same command goes on.
    """
    quiet_hubs()
    with one_line_errors():
        from synthgen.adapt.recipe import recipe_for
        from synthgen.planning.adaptation import plan_adaptation, plan_text
        from synthgen.planning.machine import machine

        chosen = recipe_for(recipe, data, base, sets or [])
        target = out or Path("models") / chosen.name
        plan = plan_adaptation(chosen, target, machine())
        if dry_run:
            typer.echo(json.dumps(plan.to_json(), indent=1) if as_json else plan_text(plan))
            if plan.missing:
                raise typer.Exit(1)
            return
        plan.require()
        from synthgen.adapt.run import adapt as run

        run(chosen, target)
        if os.environ.get("RANK", "0") == "0":  # of several processes the first speaks, for all
            typer.echo(f"{target}: use it with --set render.renderer.controlnet={target}")
