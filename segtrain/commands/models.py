"""What is done with a finished model, or shown of a training: predict, export, report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from segkit.printable import examples
from segtrain.commands.arguments import (
    GOES_ON,
    OVERLAP_PX,
    TILE_PX,
    AsJson,
    Device,
    ModelFolder,
    Overlap,
    Tile,
    on_disk,
    one_line_errors,
)

commands = typer.Typer()
_FORMATS = ("onnx", "torchscript")


@commands.command(epilog=examples("segtrain predict --model runs/segmenter photos --out runs/masks --overlays"))
def predict(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES...",
            help="pictures, folders of them with their subfolders, and labelled folders (images/ alone)",
        ),
    ],
    model: ModelFolder,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            show_default=False,
            help="new folder, or one of the same model and settings",
            callback=on_disk,
        ),
    ],
    overlays: Annotated[
        bool, typer.Option("--overlays", help="the pictures under the colours of their masks as well")
    ] = False,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="the probability of each pixel's class as a grey PNG as well")
    ] = False,
    tile: Tile = TILE_PX,
    overlap: Overlap = OVERLAP_PX,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Write a mask of class ids for each picture, as a labelled folder: labels/, images/ (links), labels.yaml.

    Masks that are there already are left as they are; the same command goes on after a kill. A picture that cannot be
    read is one line, and exit code 1 at the end. Subfolders are kept; what reads labelled folders reads no subfolders.
    """
    with one_line_errors(lambda: GOES_ON):
        from segtrain.predict import predict as run

        done = run(
            model,
            images,
            out,
            overlays=overlays,
            confidence=confidence,
            tile_px=tile,
            overlap_px=overlap,
            device=device,
        )
        typer.echo(json.dumps(done.to_json(), indent=2) if as_json else done.line())
        if done.refused:
            raise typer.Exit(1)


@commands.command(epilog=examples("segtrain export --model runs/segmenter --to onnx --out segmenter.onnx"))
def export(
    model: ModelFolder,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="onnx|torchscript",
            help="the format of the file",
            show_default=False,
            autocompletion=lambda: list(_FORMATS),
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", show_default=False, help="a new file", callback=on_disk)],
    as_json: AsJson = False,
) -> None:
    """Write a model as one file for other programs, checked against the model on random pictures of two sizes.

    Input: image (B, 3, H, W) uint8 RGB of any size; normalisation is inside. Output: logits (B, classes, H, W) float32.
    The label space is in the metadata. ONNX needs the extra `onnx`.
    """
    with one_line_errors():
        from segtrain.export import export as run

        done = run(model, to, out)
        typer.echo(json.dumps(done.to_json(), indent=2) if as_json else done.line())


@commands.command(epilog=examples("segtrain report runs/segmenter --data runs/held-out"))
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a training, finished or not")],
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER",
            help="labelled images to score the model on; default: the validation set of the training; repeat it for "
            "more",
        ),
    ] = None,
    best: Annotated[bool, typer.Option("--best", help="the best weights in place of the last ones")] = False,
    worst: Annotated[int, typer.Option(min=0, max=200, metavar="NUMBER", help="so many of the worst pictures")] = 12,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=False, help="default: RUN.report.html beside the folder", callback=on_disk
        ),
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Write one HTML page about a training: curves, IoU of each class, confusion matrix, the worst pictures.

    It needs nothing but a browser. Of a training that goes on it shows the curves.
    """
    with one_line_errors():
        from segtrain.report.page import write_report

        done = write_report(run, out, data=data or (), best=best, num_worst=worst, device=device)
        typer.echo(json.dumps(done.to_json(), indent=2) if as_json else done.path)
