"""`segtrain eval`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from segkit.printable import examples
from segtrain.commands.arguments import OVERLAP_PX, TILE_PX, Device, Overlap, Tile, on_disk, one_line_errors

commands = typer.Typer()


@commands.command(
    "eval",
    epilog=examples(
        "segtrain eval --model model --data held-out",
        "segtrain eval --model model --data RoadAnomaly --anomaly --maps uncertainty",
        "segtrain eval --model model --data acdc --domain ACDC --by-domain",
        "segtrain eval --model iccld --data held-out --samples 5 --maps uncertainty",
    ),
)
def evaluate(
    model: Annotated[str, typer.Option(metavar="FOLDER", help="folder that a training has written")],
    data: Annotated[
        list[str],
        typer.Option(metavar="FOLDER", help="a finished dataset or a labelled folder; repeat it to pool more"),
    ],
    split: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            show_default=False,
            help="split of a dataset; default: validation if there is one, else train",
        ),
    ] = "",
    novel: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS", help="a novel class, where the model does not say so itself; repeat it for more"),
    ] = None,
    anomaly: Annotated[
        bool,
        typer.Option(
            "--anomaly", help="score how well the uncertainty finds unknown pixels (254): AUROC, AP, FPR, mIoU"
        ),
    ] = False,
    rule: Annotated[
        str,
        typer.Option(
            metavar="first|nearest",
            help="threshold of FPR at 95 % recall: the first with at least that, or the one nearest to it",
        ),
    ] = "first",
    maps: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="new folder for the uncertainty of each picture as a grey PNG", callback=on_disk
        ),
    ] = None,
    alarm_threshold: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER", help="share of known pixels at this uncertainty or above: the threshold of another set"
        ),
    ] = None,
    components: Annotated[
        bool,
        typer.Option("--components", help="with --anomaly: sIoU, PPV and F1 of whole objects as well (SMIYC)"),
    ] = False,
    min_segment: Annotated[
        int,
        typer.Option(
            metavar="PIXELS", min=0, help="smaller segments are dropped; SMIYC: 500 (anomaly track), 50 (obstacles)"
        ),
    ] = 0,
    min_object: Annotated[
        int, typer.Option(metavar="PIXELS", min=0, help="smaller objects are void; SMIYC: 100 (anomaly track), 10")
    ] = 0,
    by_domain: Annotated[
        bool,
        typer.Option(
            "--by-domain", help="score each domain too: mIoU, error at boundaries and inside; Avg2, Avg3, Avg5"
        ),
    ] = False,
    domain: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="domain of each --data, in the same order; default: what domains.txt of a folder or the JSON of a "
            "dataset's samples says",
        ),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="NUMBER",
            show_default=False,
            help="score so many samples of each picture and how much they differ, of a model of `segtrain iccld`; with "
            "--maps the entropy of their mean",
        ),
    ] = 0,
    tile: Tile = TILE_PX,
    overlap: Overlap = OVERLAP_PX,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="write the scores here as well; replaces scores, nothing else; - = standard output, without the table",
            callback=on_disk,
        ),
    ] = None,
    device: Device = "auto",
) -> None:
    """Print the IoU of each class, mIoU and boundary F of a model on labelled images.

    mIoU is the mean over the classes present in ground truth or prediction; pixels with id 254 or 255 are excluded. A
    few-shot model is also scored as base, novel, mean and harmonic mIoU, in the three conventions of the field. What is
    scored are the masks that `segtrain predict` writes, of larger pictures by tiles; with --anomaly and --samples it is
    the answer to the whole picture.
    """
    with one_line_errors():
        from segtrain.evaluate import evaluate as run
        from segtrain.evaluate import require_replaceable
        from segtrain.files import write_whole

        to_stdout = json_file == Path("-")
        if json_file and not to_stdout:
            require_replaceable(json_file)
        from segtrain.evaluate_anomaly import anomaly_options, evaluate_anomaly

        other = {"--novel": bool(novel), "--by-domain": by_domain, "--domain": bool(domain), "--tile": tile != TILE_PX}
        other["--overlap"] = overlap != OVERLAP_PX
        options = anomaly_options(
            anomaly and not samples,
            rule,
            None if samples else maps,
            alarm_threshold,
            without=other,
            wants_components=components,
            min_segment_px=min_segment,
            min_object_px=min_object,
        )
        scores: Any
        if samples:
            from segtrain.evaluate_samples import evaluate_samples

            other["--anomaly"] = anomaly
            scores = evaluate_samples(model, data, samples, split=split, device=device, maps=maps, without=other)
        elif options:
            scores = evaluate_anomaly(model, data, split=split, device=device, options=options)
        else:
            scores = run(
                model,
                data,
                split=split,
                device=device,
                novel=tuple(novel or ()),
                by_domain=by_domain,
                domains=tuple(domain or ()),
                tile_px=tile,
                overlap_px=overlap,
            )
        content = json.dumps(scores.to_json(), indent=2)
        typer.echo(content if to_stdout else scores.table())
        if json_file and not to_stdout:
            write_whole(json_file, content.encode())
