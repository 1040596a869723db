"""Arguments that several commands take, and how errors are told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from segkit.printable import printable
from segkit.urls import local_only
from segtrain.errors import RunError, SegtrainError

GOES_ON = "stopped; the same command goes on where it stopped"


def on_disk(path: Path | None) -> Path | None:
    """Where plain files are written to; of a URL pathlib would make a folder called `s3:`."""
    with one_line_errors():
        try:
            return path and local_only(path)
        except ValueError as error:
            raise RunError(str(error)) from error


ModelFolder = Annotated[
    Path, typer.Option("--model", metavar="FOLDER", help="folder that a training has written", show_default=False)
]
Device = Annotated[str, typer.Option("--device", metavar="TEXT", help="auto, cpu, cuda, cuda:1, mps")]
Tile = Annotated[
    int,
    typer.Option(
        "--tile", min=0, metavar="PIXELS", help="side of the tiles of larger pictures; 0 = always the whole picture"
    ),
]
Overlap = Annotated[
    int, typer.Option("--overlap", min=0, metavar="PIXELS", help="by which tiles overlap; logits are averaged there")
]
TILE_PX, OVERLAP_PX = 1024, 128  # those of segtrain.tiles, which would import torch
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable, on standard output")]


@contextlib.contextmanager
def one_line_errors(stopped: Callable[[], str] = lambda: "stopped") -> Iterator[None]:
    """A user's mistake is one line and exit code 2, Ctrl-C the line that `stopped` gives and 130.

    Anything else is a bug and keeps its traceback.
    """
    try:
        yield
    except SegtrainError as error:
        typer.echo(f"segtrain: {printable(error)}", err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as error:
        typer.echo(f"segtrain: {printable(stopped())}", err=True)
        raise typer.Exit(130) from error
