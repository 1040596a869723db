"""The command line: no logic. A folder of `segtrain/methods/` brings its commands itself.

Importing it loads typer and nothing else of weight, so that `--help` and shell completion answer at once.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from segkit.printable import examples
from segkit.threads import wait_briefly
from segtrain.commands import models, scoring
from segtrain.commands.arguments import one_line_errors
from segtrain.method_group import MethodGroup

app = typer.Typer(
    cls=MethodGroup,
    epilog=examples(
        "segtrain train --data runs/demo/dataset --out model --steps 1000",
        "segtrain eval --model model --data held-out",
        "segtrain predict --model model photos --out masks --overlays",
        "segtrain --install-completion   # Tab completes commands and options",
    ),
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        typer.echo(f"segtrain {metadata.version('synthgen-seg')}")
        raise typer.Exit()


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="print the version and end")
    ] = False,
) -> None:
    """Train semantic segmentation on finished datasets and labelled folders, score the models and use them."""
    wait_briefly()
    from segtrain.progress import StandardError

    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[StandardError()])


def _add(parent: typer.Typer, folder: str, words: str, kind: str) -> None:
    """The command of a method: its settings become options."""
    from segtrain.options import command_of, examples_of

    settings = getattr(importlib.import_module(f"segtrain.methods.{folder}.config"), kind)
    made = command_of(settings, _trainer(folder, settings), _preset_reader(words, settings))
    parent.command(words.split()[-1], epilog=examples(*examples_of(settings)))(made)


MethodGroup.add = staticmethod(_add)


def _preset_reader(words: str, kind: type[Any]) -> Callable[[str], dict[str, Any]]:
    def read(value: str) -> dict[str, Any]:
        from segtrain.options import SPELLINGS
        from segtrain.presets import read_preset

        with one_line_errors():
            return read_preset(value, words, {SPELLINGS.get(name, name) for name in kind.model_fields})

    return read


def _trainer(name: str, kind: type[Any]) -> Callable[[dict[str, Any], bool], None]:
    def train(values: dict[str, Any], as_json: bool) -> None:
        with one_line_errors(lambda: _stopped(values["out"])):
            from segtrain.config import checked

            config = checked(kind, values)
            # torch takes seconds to import: not before the settings are known to be good.
            out = importlib.import_module(f"segtrain.methods.{name}.method").train(config)
            typer.echo(_told(config, out) if as_json else out)

    return train


def _told(config: Any, out: Path) -> str:
    from segtrain.run_folder import outcome

    return json.dumps({**outcome(out), "dry_run": config.dry_run}, indent=2)


def _stopped(out: Path) -> str:
    if "segtrain.loop" not in sys.modules:  # libraries were still being imported: asking would import them again
        return "stopped before it began"
    from segtrain.run_folder import standing

    return f"stopped; {standing(out)}"


app.add_typer(scoring.commands)
app.add_typer(models.commands)
