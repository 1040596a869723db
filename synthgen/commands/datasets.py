"""What one does with a finished dataset: `verify`, `export`, `upload`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from segkit.printable import examples, printable
from synthgen import storage
from synthgen.commands.arguments import AsJson, FormatName, on_disk, one_line_errors

commands = typer.Typer()
PANEL = "Check a dataset and hand it on"  # under which `synthgen --help` shows them


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples("synthgen verify runs/syn4seg-mini", "synthgen verify runs/syn4seg-mini/dataset --json"),
)
def verify(
    dataset: Annotated[Path, typer.Argument(metavar="RUN_OR_DATASET", help="A run folder, or its finished dataset")],
    as_json: AsJson = False,
) -> None:
    """Read everything again and check it: checksums, members, ids, sizes, counts, tables, contact sheet; says what it
    does not look at. Exit code 1 if anything is broken."""
    with one_line_errors():
        from segkit.cores import usable_cores
        from synthgen.dataset.verify import NOT_CHECKED
        from synthgen.dataset.verify import verify as check
        from synthgen.errors import DatasetError
        from synthgen.lock import LOCK
        from synthgen.ownership import DATASET

        folder = storage.local_dataset(dataset)
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder")
        if (folder / LOCK).is_file():  # a run folder
            folder = folder / DATASET
        problems = check(folder, usable_cores())
        shown = storage.with_urls(folder)
        if as_json:
            report = {
                "dataset": shown,
                "whole": not problems,
                "problems": [dataclasses.asdict(problem) for problem in problems],
                "not_checked": NOT_CHECKED,
            }
            typer.echo(json.dumps(report, indent=1))
        else:
            for problem in problems:
                typer.echo(printable(problem))
            typer.echo(f"{shown}: {'whole' if not problems else f'{len(problems)} problems'}")
            typer.echo(f"not looked at: {NOT_CHECKED}", err=True)  # scripts read the one line
        if problems:
            raise typer.Exit(1)


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "synthgen export runs/syn4seg-mini --to coco --out coco_copy",
        "synthgen export runs/syn4seg-mini/dataset --to mmseg --out mmseg_copy",
        "synthgen export runs/syn4seg-mini --to yolo-seg --out yolo_copy --json",
    ),
)
def export(
    source: Annotated[Path, typer.Argument(metavar="RUN_OR_DATASET", help="A run folder, or its finished dataset")],
    to: FormatName,
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="A new folder; one that holds anything else is refused", callback=on_disk),
    ],
    as_json: AsJson = False,
) -> None:
    """Write a finished dataset in another tool's layout; run it again to go on where it stopped."""
    with one_line_errors():
        from synthgen.export.run import export as write

        report = write(storage.local_dataset(source), to, out)
        if as_json:
            return typer.echo(json.dumps(dataclasses.asdict(report), default=str, indent=1))
        typer.echo(f"{out}: {report.num_samples} samples as {to}" + ("" if report.num_new else ", was whole already"))
        if report.loss:
            typer.echo(f"not carried: {report.loss}")
        typer.echo(f"open: {report.use}")


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "synthgen upload runs/syn4seg-mini --out s3://bucket/sets/mini",
        "synthgen upload runs/syn4seg-mini/dataset --out gs://bucket/mini --json",
    ),
)
def upload(
    source: Annotated[Path, typer.Argument(metavar="RUN_OR_DATASET", help="A run folder, or its finished dataset")],
    out: Annotated[Path, typer.Option(metavar="URL", help="Where to: s3://bucket/prefix; another dataset is refused")],
    as_json: AsJson = False,
) -> None:
    """Put a finished dataset on an object store, index.json last; run it again to go on where it stopped."""
    with one_line_errors():
        from synthgen.export.upload import target_url
        from synthgen.export.upload import upload as put

        url = target_url(out)
        report = put(storage.local_dataset(source), url, lambda name: typer.echo(f"sent {name}", err=True))
        if as_json:
            return typer.echo(json.dumps(dataclasses.asdict(report), indent=1))
        sent = f"{report.num_sent} of {report.num_files} files sent" if report.num_sent else "was whole already"
        typer.echo(f"{url}: {report.num_samples} samples, {sent}")
        if report.left_out:
            typer.echo(printable(f"not of the dataset, left here: {', '.join(report.left_out)}"))
