"""What one asks about a run: `status`, `retry`, `report`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from segkit.printable import examples
from synthgen import storage
from synthgen.commands.arguments import AsJson, RunFolder, Sets, on_disk, one_line_errors
from synthgen.commands.stages import carry_on, quiet_hubs

commands = typer.Typer()
PANEL = "Look at a run"  # under which `synthgen --help` shows them


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "synthgen status runs/syn4seg-mini",
        "synthgen status runs/syn4seg-mini --watch",
        "synthgen status runs/syn4seg-mini --json | jq .",
    ),
)
def status(
    run: RunFolder,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing it until the dataset is whole")] = False,
) -> None:
    """Say where a run stands: units, rows made and refused, reasons, working time."""
    with one_line_errors():
        from synthgen.progress import standing, summary
        from synthgen.progress import watch as keep_showing

        run = storage.local_copy(run)
        if watch:
            keep_showing(run)
        if as_json:
            typer.echo(json.dumps(standing(run), indent=1))
        else:
            summary(run)


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "synthgen retry runs/syn4seg-mini",
        "synthgen retry runs/syn4seg-mini --failed",
        "synthgen retry runs/syn4seg-mini --failed --set execution.batch_size=1",
    ),
)
def retry(
    run: RunFolder,
    failed: Annotated[
        bool,
        typer.Option("--failed", help="Do them again, and what follows from them; without it they are only listed"),
    ] = False,
    sets: Sets = None,
) -> None:
    """List the samples that raised an error each time, or do these and no others again."""
    with one_line_errors():
        from synthgen import again, lock, pipeline
        from synthgen.progress import standing, summary
        from synthgen.recipe import read_recipe

        run = storage.local_copy(run)
        standing(run)  # refuses what is no run
        found = again.failed(run)
        for stage, rows in found.items():
            for row in rows:
                typer.echo(f"{stage:8} {row.parent} {row.detail}")
        if not found or not failed:
            how = f"; `synthgen retry {shlex.quote(storage.with_urls(run))} --failed` tries them" if found else ""
            return typer.echo(f"{sum(map(len, found.values()))} samples failed{how}")
        quiet_hubs()
        recipe, moved = pipeline.retry_failed(read_recipe(str(run / lock.LOCK), sets or []), run)
        for old in moved:
            typer.echo(f"kept the old results in {storage.with_urls(old)}")
        carry_on(recipe, run)
        summary(run)


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "synthgen report runs/syn4seg-mini", "synthgen report runs/syn4seg-mini --out page.html --samples 200"
    ),
)
def report(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run folder, finished or not, for example runs/syn4seg-mini")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="The page; default: RUN.report.html beside the run folder", callback=on_disk
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", min=1, help="How many images at most; the page stays under 20 MB anyway")
    ] = 480,
) -> None:
    """Write one HTML page about a run: gallery, classes, prompt map, refusals, scores, times, lineage.

    It needs no network.
    """
    with one_line_errors():
        from synthgen.report.page import write_report

        run = storage.local_copy(run)
        if storage.store_of(run) is not None:
            out = out or Path(f"{run.name}.report.html")
        written = write_report(run, out, samples)
        typer.echo(
            f"{written.path}: {written.num_shown} of {written.num_images} images, {written.num_bytes / 1e6:.1f} "
            "MB; open it in a browser"
        )
