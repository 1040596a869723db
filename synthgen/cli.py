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
    add_completion=True,
    pretty_exceptions_enable=False,
)


def _recipe_names(incomplete: str) -> list[str]:
    """For shell completion."""
    from synthgen.recipe import shipped_recipes

    return [name for name in shipped_recipes() if name.startswith(incomplete)]


def _source_names(incomplete: str) -> list[str]:
    """For shell completion."""
    from synthgen.sources.catalogue import source_names

    return [name for name in source_names() if name.startswith(incomplete)]


RecipeName = Annotated[
    str,
    typer.Argument(metavar="RECIPE", help="A shipped recipe (see `synthgen recipes`), or a path with a / or .yaml", autocompletion=_recipe_names),
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable")]
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

    _quiet()
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


def _quiet() -> None:
    """Hubs ask for progress bars and print advice; one line of ours is enough."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")


def _run(recipe: Any, folder: Path, names: tuple[str, ...]) -> None:
    from synthgen import pipeline
    from synthgen.progress import show

    for name in names:
        show(pipeline.run_stage(recipe, folder, name, log=True), folder)


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
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing it until the dataset is whole")] = False,
) -> None:
    """Say where a run stands: units, rows made and refused, reasons, working time."""
    with one_line_errors():
        from synthgen.progress import standing, summary
        from synthgen.progress import watch as keep_showing

        if watch:
            keep_showing(run)
        if as_json:
            typer.echo(json.dumps(standing(run), indent=1))
        else:
            summary(run)


@app.command()
def retry(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, for example runs/syn4seg-mini")],
    failed: Annotated[bool, typer.Option("--failed", help="Do them again, and what follows from them; without it they are only listed")] = False,
    sets: Sets = None,
) -> None:
    """List the samples that raised an error each time, or do these and no others again (--set execution.batch_size=1 may help)."""
    with one_line_errors():
        from synthgen import pipeline
        from synthgen.progress import standing, summary
        from synthgen.recipe import read_recipe

        standing(run)  # refuses what is no run
        found = pipeline.failed(run)
        for stage, rows in found.items():
            for row in rows:
                typer.echo(f"{stage:8} {row.parent} {row.detail}")
        if not found or not failed:
            return typer.echo(f"{sum(map(len, found.values()))} samples failed" + (f"; `synthgen retry {run} --failed` tries them" if found else ""))
        _quiet()
        recipe = read_recipe(str(run / pipeline.LOCK), sets or [])
        for old in pipeline.retry_failed(recipe, run):
            typer.echo(f"kept the old results in {old}")
        _run(recipe, run, tuple(pipeline.MODULES))
        summary(run)


@app.command()
def verify(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A finished dataset folder, for example runs/syn4seg-mini/dataset")],
    as_json: AsJson = False,
) -> None:
    """Read everything again and check it: checksums, members, ids, sizes, counts. Exit code 1 if anything is broken."""
    with one_line_errors():
        import dataclasses

        from synthgen.dataset.verify import verify as check

        problems = check(dataset)
        if as_json:
            typer.echo(
                json.dumps({"dataset": str(dataset), "whole": not problems, "problems": [dataclasses.asdict(each) for each in problems]}, indent=1)
            )
        else:
            for problem in problems:
                typer.echo(str(problem))
            typer.echo(f"{dataset}: {'whole' if not problems else f'{len(problems)} problems'}")
        if problems:
            sys.exit(1)


@app.command()
def export(
    source: Annotated[Path, typer.Argument(metavar="RUN_OR_DATASET", help="A run folder, or its finished dataset")],
    to: Annotated[
        str,
        typer.Option(help="coco, coco-panoptic, voc, cityscapes, mmseg, detectron2, yolo-seg, fiftyone, folder, dali-index"),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder; one that holds anything else is refused")],
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable")] = False,
) -> None:
    """Write a finished dataset in another tool's layout; run it again to go on where it stopped."""
    with one_line_errors():
        import dataclasses

        from synthgen.export.run import export as write

        report = write(source, to, out)
        if as_json:
            return typer.echo(json.dumps(dataclasses.asdict(report), default=str, indent=1))
        typer.echo(f"{out}: {report.num_samples} samples as {to}" + ("" if report.num_new else ", was whole already"))
        if report.loss:
            typer.echo(f"not carried: {report.loss}")
        typer.echo(f"open: {report.use}")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, finished or not, for example runs/syn4seg-mini")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="The page; default: RUN.report.html beside the run folder")] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="How many images at most; the page stays under 20 MB anyway")] = 480,
) -> None:
    """Write one HTML page about a run: gallery, classes, prompt map, refusals, scores, times, lineage. It needs no network."""
    with one_line_errors():
        from synthgen.report.page import write_report

        written = write_report(run, out, samples)
        typer.echo(f"{written.path}: {written.num_shown} of {written.num_images} images, {written.num_bytes / 1e6:.1f} MB; open it in a browser")


@app.command()
def recipes(
    show: Annotated[str, typer.Argument(metavar="[RECIPE]", help="Print this recipe instead of the list", autocompletion=_recipe_names)] = "",
    as_json: AsJson = False,
) -> None:
    """List the shipped recipes, or print one (redirect it to a file to start your own)."""
    with one_line_errors():
        from synthgen.recipe import read_recipe, recipe_path, shipped_recipes

        if as_json:
            chosen = [read_recipe(name) for name in ([show] if show else shipped_recipes())]
            typer.echo(json.dumps([each.model_dump(mode="json") for each in chosen], indent=1))
            return
        if show:
            typer.echo(recipe_path(show).read_text(encoding="utf-8"), nl=False)
            return
        for name in shipped_recipes():
            typer.echo(f"{name:24} {read_recipe(name).title}")


@app.command()
def backends(as_json: AsJson = False) -> None:
    """List the backends of every role; --json tells the options of each as well."""
    from synthgen.backends import ROLES, available, find

    if as_json:
        found = {role: {name: find(role, name).Options.model_json_schema() for name in available(role)} for role in ROLES}
        return typer.echo(json.dumps(found, indent=1))
    for role in ROLES:
        typer.echo(f"{role:18} {', '.join(available(role))}")


@app.command()
def init(
    recipe: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="The recipe to write; nothing is overwritten")],
    classes: Annotated[str, typer.Option(help="Classes, with commas between: 'bicycle, bus'")] = "",
    support: Annotated[str, typer.Option(metavar="DIR", help="Folder with images/ and labels/; empty = drawings (model mini only)")] = "",
    model: Annotated[str, typer.Option(help="mini, sd35-large, sd35-medium, a Hub id or a local folder")] = "sd35-large",
    count: Annotated[int, typer.Option(min=1, help="Images to render, all classes together")] = 500,
    shots: Annotated[int, typer.Option(min=1, help="Labelled images per class")] = 5,
    space: Annotated[str, typer.Option(help="Label space of your masks: a shipped one or a YAML file; empty = written beside the recipe")] = "",
) -> None:
    """Write a recipe to start from, with a comment at every setting.

    synthgen init cranes.yaml --classes 'crane, excavator' --support my_support --count 2000
    """
    with one_line_errors():
        from synthgen.starter import Answers, write_recipe

        names = tuple(word.strip() for word in classes.split(",") if word.strip())
        for path in write_recipe(recipe, Answers(names, support, model, count, shots, space)):
            typer.echo(f"wrote {path}")
        where = recipe if recipe.is_absolute() else f"./{recipe}"
        typer.echo(f"next: synthgen doctor {where}, then synthgen run {where}")


@app.command()
def doctor(
    recipes: Annotated[list[str] | None, typer.Argument(metavar="[RECIPE]...", help="Check these instead of the shipped ones")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what is installed, which weights and GPUs are there, and which recipes would run. Exit code 1 if a named recipe would not."""
    with one_line_errors():
        import dataclasses

        from synthgen.doctor import check_recipes, lines, machine

        here = machine()
        checks = check_recipes(here, tuple(recipes or ()))
        if as_json:
            told = {"machine": dataclasses.asdict(here), "recipes": [{**dataclasses.asdict(each), "would_run": each.would_run} for each in checks]}
            typer.echo(json.dumps(told, indent=1))
        else:
            typer.echo("\n".join(lines(here, checks)))
        if recipes and not all(each.would_run for each in checks):
            sys.exit(1)


@app.command()
def sources(
    name: Annotated[str, typer.Argument(metavar="[SOURCE]", help="Tell this one in full", autocompletion=_source_names)] = "",
    as_json: AsJson = False,
) -> None:
    """List the public datasets that can serve as labelled images: what to download from where, and under which licence."""
    with one_line_errors():
        from synthgen.sources.catalogue import read_source, source_names

        chosen = [read_source(each) for each in ([name] if name else source_names())]
        if as_json:
            typer.echo(json.dumps([each.model_dump(mode="json") for each in chosen], indent=1))
        elif not name:
            for each in chosen:
                typer.echo(f"{each.name:18} {each.title} [{each.licence}]")
            typer.echo("use one: --set support.source=NAME --set support.folder=DIR --set support.split=SPLIT; `synthgen sources NAME` tells more")
        else:
            (source,) = chosen
            typer.echo(f"{source.title}\nlicence: {source.licence}\nlabel space: {source.space}\nsplits: {', '.join(source.splits)}")
            typer.echo(f"\n{source.download}\nread from the folder:")
            for layout in source.layouts:
                typer.echo(f"  {layout.images}  with  {layout.labels}")


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A public dataset of `synthgen sources`", autocompletion=_source_names)],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where it lies")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder: images/ and labels/ (PNG of class ids)")],
    split: Annotated[str, typer.Option(help="Which split; default: the first")] = "",
    space: Annotated[str, typer.Option(help="Label space of the masks; default: the dataset's own")] = "",
) -> None:
    """Write a split of a public dataset as a plain labelled folder: for layouts to render from, or `segtrain eval`."""
    with one_line_errors():
        from synthgen.labels import read_label_space
        from synthgen.sources.catalogue import read_source
        from synthgen.sources.convert import convert as write

        steps = list(write(source, folder, split, read_label_space(space or read_source(source).space), out))
        typer.echo(f"{out}: {len(steps)} images of {source}")


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
