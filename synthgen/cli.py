"""The command line. No logic:

every command of synthgen.commands reads its arguments, calls one function and prints what came of it.

Importing it loads typer and nothing else of weight, so that `--help` and shell completion answer at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from segkit.printable import examples
from segkit.threads import wait_briefly
from synthgen.commands import adapting, datasets, improving, labelled, runs, stages, start

app = typer.Typer(
    epilog=examples(
        "synthgen run syn4seg-mini       # a small dataset: no GPU, no account",
        "synthgen init --help            # a recipe for your own classes",
        "synthgen --install-completion   # Tab completes commands, recipes, options",
    ),
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        typer.echo(f"synthgen {metadata.version('synthgen-seg')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and end")
    ] = False,
) -> None:
    """Makes labelled training data for semantic segmentation: prompts -> images -> masks -> WebDataset shards."""
    wait_briefly()


for group in (start, stages, improving, adapting, runs, datasets, labelled):
    app.add_typer(group.commands)
