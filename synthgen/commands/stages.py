"""`synthgen run`, and each stage by itself."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from segkit.printable import examples
from synthgen.commands.arguments import RUNS, RecipeName, Redo, RunName, Runs, Sets, Trust, one_line_errors
from synthgen.plugins import looking_only

commands = typer.Typer()
PANEL = "Make a dataset"  # under which `synthgen --help` shows them


@commands.command(
    "run",
    rich_help_panel=PANEL,
    epilog=examples(
        "synthgen run syn4seg-mini",
        "synthgen run syn4seg --dry-run --set support.folder=my_support",
        "synthgen run ./cranes.yaml --set execution.batch_size=2",
        "synthgen run syn4seg-mini --run tryout --set prompts.per_class=4",
        "synthgen run syn4seg-mini --set filter.rules.max_class_rank=0 --redo filter",
    ),
)
def run_all(
    recipe: RecipeName,
    sets: Sets = None,
    runs: Runs = RUNS,
    run: RunName = "",
    redo: Redo = "",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only tell units, time, disk, memory and what is missing (then exit code 1)"),
    ] = False,
    trust: Trust = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable, with --dry-run")] = False,
) -> None:
    """Run every stage; run it again to go on where it stopped."""
    if dry_run:
        return _dry_run(recipe, sets, runs, run, trust, as_json)
    with one_line_errors():
        chosen, folder = _start(recipe, sets, runs, run, redo, "")
        carry_on(chosen, folder)
        from synthgen.engines.accelerate import rank
        from synthgen.progress import summary

        if rank() == 0:
            summary(folder)


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples("synthgen prompts syn4seg-mini", "synthgen prompts ./cranes.yaml --calibrate"),
)
def prompts(
    recipe: RecipeName,
    sets: Sets = None,
    runs: Runs = RUNS,
    run: RunName = "",
    redo: Redo = "",
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Only print the pass rate over lambda_div, make nothing")
    ] = False,
) -> None:
    """Build the prompt bank: propose, embed, drop near-duplicates (Syn4Seg: HDIG)."""
    if not calibrate:
        return _verb("prompts", recipe, sets, runs, run, redo, tell_coverage=True)
    with one_line_errors():
        from synthgen.prompts.calibration import calibrate_recipe
        from synthgen.prompts.coverage import calibration_text
        from synthgen.recipe import read_recipe

        typer.echo(calibration_text(calibrate_recipe(read_recipe(recipe, sets or []))))


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "synthgen render syn4seg-mini", "synthgen render ./cranes.yaml --set render.renderer.steps=40 --redo render"
    ),
)
def render(recipe: RecipeName, sets: Sets = None, runs: Runs = RUNS, run: RunName = "", redo: Redo = "") -> None:
    """Render the accepted prompts (or take over photographs)."""
    _verb("render", recipe, sets, runs, run, redo)


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "synthgen refine syn4seg-mini", "synthgen refine syn4seg-mini --set refine.apf.lambda_apf=0.5 --redo refine"
    ),
)
def refine(recipe: RecipeName, sets: Sets = None, runs: Runs = RUNS, run: RunName = "", redo: Redo = "") -> None:
    """Label the images: coarse masks, then APF, APR and SABR (Syn4Seg: APE, SABR)."""
    _verb("refine", recipe, sets, runs, run, redo)


@commands.command(
    "filter",
    rich_help_panel=PANEL,
    epilog=examples(
        "synthgen filter syn4seg-mini", "synthgen filter syn4seg-mini --set filter.rules.max_class_rank=0 --redo filter"
    ),
)
def filter_(recipe: RecipeName, sets: Sets = None, runs: Runs = RUNS, run: RunName = "", redo: Redo = "") -> None:
    """Score every labelled image once, then keep what passes the rules."""
    _verb("filter", recipe, sets, runs, run, redo)


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "synthgen pack syn4seg-mini", "synthgen pack syn4seg-mini --set pack.samples_per_shard=500 --redo pack"
    ),
)
def pack(recipe: RecipeName, sets: Sets = None, runs: Runs = RUNS, run: RunName = "", redo: Redo = "") -> None:
    """Write the shards, the contact sheet, the data card and the index."""
    _verb("pack", recipe, sets, runs, run, redo)


def _dry_run(recipe: str, sets: list[str] | None, runs: Path, run: str, trust: bool, as_json: bool) -> None:
    with one_line_errors(), looking_only(trust):
        from synthgen import storage
        from synthgen.dry_run import dry_run, plan_text
        from synthgen.planning.machine import machine
        from synthgen.recipe import read_recipe

        quiet_hubs()
        chosen = read_recipe(recipe, sets or [])
        plan = dry_run(chosen, storage.local_copy(runs / (run or chosen.name)), machine())
        typer.echo(json.dumps(dataclasses.asdict(plan), indent=1) if as_json else plan_text(plan))
        if plan.missing:
            raise typer.Exit(1)


def _verb(
    verb: str, recipe_name: str, sets: list[str] | None, runs: Path, run: str, redo: str, tell_coverage: bool = False
) -> None:
    with one_line_errors():
        recipe, folder = _start(recipe_name, sets, runs, run, redo, verb)
        carry_on(recipe, folder, verb)
        if tell_coverage:
            from synthgen.prompts.stage import coverage_report

            typer.echo(coverage_report(folder))


def _start(recipe_name: str, sets: list[str] | None, runs: Path, run: str, redo: str, verb: str) -> tuple[Any, Path]:
    """The recipe, its models pinned, and its run folder, claimed."""
    from synthgen import pipeline, stages, storage
    from synthgen.errors import RecipeError, did_you_mean
    from synthgen.recipe import read_recipe

    quiet_hubs()
    recipe = read_recipe(recipe_name, sets or [])
    folder = storage.local_copy(runs / (run or recipe.name))
    if redo and redo not in stages.names():
        near = did_you_mean(redo, stages.names())
        raise RecipeError(f"--redo {redo!r}: there is no such stage; there are: {', '.join(stages.names())}{near}")
    pinned, moved = pipeline.begin(recipe, folder, stages.names(verb), redo)
    for old in moved:
        typer.echo(f"kept the old results in {storage.with_urls(old)}")
    return pinned, folder


def quiet_hubs() -> None:
    """Hubs ask for progress bars and print advice; one line of ours is enough."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")


def carry_on(recipe: Any, folder: Path, verb: str = "") -> None:
    """Run the stages of a verb ("" = all) and show each."""
    from synthgen import pipeline, stages
    from synthgen.errors import SynthgenError
    from synthgen.progress import show

    try:
        for name in stages.names(verb):
            show(pipeline.run_stage(recipe, folder, name, log=True), folder)
    except SynthgenError:
        pipeline.give_up(folder)
        raise
