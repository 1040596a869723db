"""The command line. No logic: every command reads a recipe, calls one function and prints what came of it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from synthgen.errors import SynthgenError

app = typer.Typer(
    help="Makes labelled training data for semantic segmentation: prompts -> images -> masks -> WebDataset shards.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe (see `synthgen recipes`), or a path with a / or .yaml")]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Change one setting; may be repeated")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder that holds run folders")]
RunName = Annotated[str, typer.Option("--run", help="Name of the run folder; default: the recipe's name")]
Redo = Annotated[str, typer.Option("--redo", metavar="STAGE", help="Make this stage and all after it again; old results are kept beside")]
RUNS = Path("runs")


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """A SynthgenError is one line on stderr and exit code 2; Ctrl-C says how to go on. Anything else is a bug and keeps its traceback."""
    try:
        yield
    except SynthgenError as error:
        typer.echo(f"synthgen: {' '.join(str(error).splitlines())}", err=True)  # what a library says may have several lines
        raise typer.Exit(2) from error
    except KeyboardInterrupt as error:
        typer.echo("synthgen: stopped; the same command goes on where it stopped", err=True)
        raise typer.Exit(130) from error


def _start(recipe_name: str, sets: list[str] | None, runs: Path, run: str, redo: str, names: tuple[str, ...]) -> tuple[Any, Path]:
    """The recipe and its run folder, checked against what the folder already holds."""
    from synthgen import pipeline
    from synthgen.errors import RecipeError
    from synthgen.recipe import read_recipe

    # hubs ask for progress bars and print advice; one line of ours is enough
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")
    recipe = read_recipe(recipe_name, sets or [])
    folder = runs / (run or recipe.name)
    if redo and redo not in pipeline.MODULES:
        raise RecipeError(f"--redo {redo!r}: there is no such stage; there are: {', '.join(pipeline.MODULES)}")
    pipeline.check_claim(recipe, folder, names, redo)
    if redo:
        for old in pipeline.redo(folder, redo):
            typer.echo(f"kept the old results in {old}")
    pipeline.write_lock(recipe, folder)
    return recipe, folder


def _run(recipe: Any, folder: Path, names: tuple[str, ...]) -> None:
    from synthgen import pipeline
    from synthgen.progress import show

    for name in names:
        show(pipeline.run_stage(recipe, folder, name))


def _verb(verb: str, recipe_name: str, sets: list[str] | None, runs: Path, run: str, redo: str) -> None:
    from synthgen import pipeline

    with one_line_errors():
        recipe, folder = _start(recipe_name, sets, runs, run, redo, pipeline.VERBS[verb])
        _run(recipe, folder, pipeline.VERBS[verb])


@app.command()
def prompts(
    recipe: RecipeName,
    sets: Sets = None,
    runs: Runs = RUNS,
    run: RunName = "",
    redo: Redo = "",
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Only print the pass rate over lambda_div, make nothing")] = False,
) -> None:
    """Build the prompt bank: propose, embed, drop near-duplicates (Syn4Seg: HDIG)."""
    if not calibrate:
        return _verb("prompts", recipe, sets, runs, run, redo)
    with one_line_errors():
        from synthgen.prompts.coverage import calibration_text
        from synthgen.prompts.stage import calibrate_recipe
        from synthgen.recipe import read_recipe

        typer.echo(calibration_text(calibrate_recipe(read_recipe(recipe, sets or []))))


@app.command()
def render(recipe: RecipeName, sets: Sets = None, runs: Runs = RUNS, run: RunName = "", redo: Redo = "") -> None:
    """Render the accepted prompts (or take over photographs)."""
    _verb("render", recipe, sets, runs, run, redo)


@app.command()
def refine(recipe: RecipeName, sets: Sets = None, runs: Runs = RUNS, run: RunName = "", redo: Redo = "") -> None:
    """Label the images: coarse masks, then APF, APR and SABR (Syn4Seg: APE, SABR)."""
    _verb("refine", recipe, sets, runs, run, redo)


@app.command("filter")
def filter_(recipe: RecipeName, sets: Sets = None, runs: Runs = RUNS, run: RunName = "", redo: Redo = "") -> None:
    """Score every labelled image once, then keep what passes the rules."""
    _verb("filter", recipe, sets, runs, run, redo)


@app.command()
def pack(recipe: RecipeName, sets: Sets = None, runs: Runs = RUNS, run: RunName = "", redo: Redo = "") -> None:
    """Write the shards, the contact sheet, the data card and the index."""
    _verb("pack", recipe, sets, runs, run, redo)


@app.command("run")
def run_all(recipe: RecipeName, sets: Sets = None, runs: Runs = RUNS, run: RunName = "", redo: Redo = "") -> None:
    """Run every stage; run it again to go on where it stopped."""
    from synthgen import pipeline

    with one_line_errors():
        chosen, folder = _start(recipe, sets, runs, run, redo, tuple(pipeline.MODULES))
        _run(chosen, folder, tuple(pipeline.MODULES))
        from synthgen.engines.accelerate import rank
        from synthgen.progress import summary

        if rank() == 0:
            summary(folder)


@app.command()
def status(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, for example runs/syn4seg-mini")],
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable")] = False,
) -> None:
    """Say where a run stands: units, rows made and refused, reasons, working time."""
    with one_line_errors():
        from synthgen.progress import standing, summary

        if as_json:
            typer.echo(json.dumps(standing(run), indent=1))
        else:
            summary(run)


@app.command()
def verify(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A finished dataset folder, for example runs/syn4seg-mini/dataset")],
) -> None:
    """Read everything again and check it: checksums, members, ids, sizes, counts. Exit code 1 if anything is broken."""
    with one_line_errors():
        from synthgen.dataset.verify import verify as check

        problems = check(dataset)
        for problem in problems:
            typer.echo(str(problem))
        typer.echo(f"{dataset}: {'whole' if not problems else f'{len(problems)} problems'}")
        if problems:
            sys.exit(1)


@app.command()
def recipes(
    show: Annotated[str, typer.Argument(metavar="[RECIPE]", help="Print this recipe instead of the list")] = "",
) -> None:
    """List the shipped recipes, or print one (redirect it to a file to start your own)."""
    with one_line_errors():
        from synthgen.recipe import read_recipe, recipe_path, shipped_recipes

        if show:
            typer.echo(recipe_path(show).read_text(encoding="utf-8"), nl=False)
            return
        for name in shipped_recipes():
            typer.echo(f"{name:24} {read_recipe(name).title}")


@app.command()
def backends() -> None:
    """List the backends of every role."""
    from synthgen.backends import ROLES, available

    for role in ROLES:
        typer.echo(f"{role:18} {', '.join(available(role))}")


@app.command()
def draw(
    out: Annotated[Path, typer.Argument(help="A new folder: images/ and labels/ (PNG of class ids)")],
    world: Annotated[str, typer.Option(help="objects or streets")] = "objects",
    count: Annotated[int, typer.Option(min=1, help="How many scenes")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first scene; scene i has seed + i")] = 0,
    size_px: Annotated[int, typer.Option(min=32, max=1024, help="Height; street scenes are 1.5 times as wide")] = 64,
) -> None:
    """Draw scenes with exact masks as a plain labelled folder, as if they were your own data."""
    with one_line_errors():
        from synthgen.minis.world.split import write_split

        write_split(out, world, count, seed, size_px)
        typer.echo(f"{out}: {count} {world} scenes")
