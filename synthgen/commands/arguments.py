"""Arguments that several commands take, shell completion of names, and how errors are told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from segkit.printable import printable
from segkit.urls import url_of
from synthgen import storage, urls
from synthgen.errors import InputError, SynthgenError

RUNS = Path("runs")


def on_disk(path: Path | None) -> Path | None:
    """A path that plain files are read from or written to; of a URL pathlib would make a folder called `s3:`."""
    url = url_of(path or "")
    here = urls.on_this_disk(url)
    with one_line_errors():
        if url and here is None:
            raise InputError(
                f"{url}: must be on a disk here; a run may lie on an object store (--runs), and "
                "`synthgen upload` puts a finished dataset there"
            )
    return here or path


def _recipe_names(incomplete: str) -> list[str]:
    from synthgen.recipe import shipped_recipes

    return [name for name in shipped_recipes() if name.startswith(incomplete)]


def _source_names(incomplete: str) -> list[str]:
    from synthgen.sources.catalogue import source_names

    return [name for name in source_names() if name.startswith(incomplete)]


def _format_names(incomplete: str) -> list[str]:
    from synthgen.export.catalogue import available

    return [name for name in available() if name.startswith(incomplete)]


def _label_format_names(incomplete: str) -> list[str]:
    from synthgen.sources.writing import available

    return [name for name in available() if name.startswith(incomplete)]


def _stage_names(incomplete: str) -> list[str]:
    from synthgen.stages import names

    return [name for name in names() if name.startswith(incomplete)]


RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A shipped recipe (see `synthgen recipes`), or a path with a / or .yaml",
        autocompletion=_recipe_names,
    ),
]
ShownRecipe = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Print this recipe instead of the list", autocompletion=_recipe_names)
]
CheckedRecipes = Annotated[
    list[str] | None,
    typer.Argument(metavar="RECIPE", help="Check these instead of the shipped ones", autocompletion=_recipe_names),
]
LabelSourceName = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A public dataset or export of `synthgen sources`, or `folder`: a plain labelled folder",
        autocompletion=_source_names,
    ),
]
LabelFormat = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="FORMAT",
        help="folder, coco_export, labelme, cvat_masks, label_studio, roboflow_masks",
        autocompletion=_label_format_names,
    ),
]
ShownSource = Annotated[
    str, typer.Argument(metavar="SOURCE", help="Tell this one in full", autocompletion=_source_names)
]
FormatName = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="FORMAT",
        help="coco, coco-panoptic, voc, cityscapes, mmseg, detectron2, yolo-seg, fiftyone, folder, photographs, "
        "dali-index",
        autocompletion=_format_names,
    ),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, for example runs/syn4seg-mini")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Import the modules of others that the recipe names (a run always does)")
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Change one setting; may be repeated")
]
Runs = Annotated[
    Path, typer.Option("--runs", metavar="DIR", help="Folder that holds run folders; may be a URL: s3://bucket/runs")
]
RunName = Annotated[
    str,
    typer.Option(
        "--run", metavar="NAME", help="Name of the run folder; default: the recipe's name", show_default=False
    ),
]
Redo = Annotated[
    str,
    typer.Option(
        "--redo",
        metavar="STAGE",
        help="Make this stage and all after it again; old results are kept beside",
        show_default=False,
        autocompletion=_stage_names,
    ),
]


@contextlib.contextmanager
def one_line_errors(go_on: str = "the same command goes on where it stopped") -> Iterator[None]:
    """A SynthgenError is one line on stderr and exit code 2; Ctrl-C says how to `go_on`.

    Anything else is a bug and keeps its traceback.
    """
    try:
        yield
    except SynthgenError as error:
        typer.echo(f"synthgen: {printable(storage.with_urls(error))}", err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as error:
        typer.echo(f"synthgen: stopped; {printable(go_on)}", err=True)
        raise typer.Exit(130) from error
