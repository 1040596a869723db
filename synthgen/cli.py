"""The command line. No logic:

every command of synthgen.commands reads its arguments, calls one function and prints what came of it.

Importing it loads typer and nothing else of weight, so that `--help` and shell completion answer at once.
"""

from __future__ import annotations

import typer

from synthgen.commands import adapting, datasets, labelled, runs, stages, start
from synthgen.commands.arguments import examples

app = typer.Typer(
    help="Makes labelled training data for semantic segmentation: prompts -> images -> masks -> WebDataset shards.",
    epilog=examples(
        "synthgen run syn4seg-mini       # a small dataset: no GPU, no account",
        "synthgen init --help            # a recipe for your own classes",
        "synthgen --install-completion   # Tab completes commands, recipes, options",
    ),
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
for group in (start, stages, adapting, runs, datasets, labelled):
    app.add_typer(group.commands)
