"""The command line: no logic. A folder of `segtrain/methods/` brings its commands itself."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from segkit.printable import printable
from segtrain.errors import SegtrainError
from segtrain.options import SPELLINGS, command_of
from segtrain.presets import read_preset

_METHODS = Path(__file__).parent / "methods"

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


@app.callback()
def main() -> None:
    """Train semantic segmentation on finished datasets and labelled folders, and score the models.

    segtrain train --data runs/demo/dataset --out model --steps 1000

    segtrain eval --model model --data held-out
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """A user's mistake is one line and exit code 2; anything else is a bug and keeps its traceback."""
    try:
        yield
    except SegtrainError as error:
        typer.echo(f"segtrain: {printable(error)}", err=True)
        raise typer.Exit(2) from error


def methods() -> list[str]:
    """The folders of `segtrain/methods/`."""
    return sorted(path.parent.name for path in _METHODS.glob("*/method.py"))


def add_method(name: str) -> None:
    """Add the commands of a method: `COMMANDS` of its config.py, by their words, `few-shot base` for a group."""
    folder = importlib.import_module(f"segtrain.methods.{name}")
    for words, kind in importlib.import_module(f"segtrain.methods.{name}.config").COMMANDS.items():
        *group, command = words.split()
        parent = _group(group[0], (folder.__doc__ or "").strip().splitlines()[0]) if group else app
        parent.command(command)(command_of(kind, _trainer(name, kind), _preset_reader(words, kind)))


def _preset_reader(words: str, kind: type[Any]) -> Callable[[str], dict[str, Any]]:
    def read(value: str) -> dict[str, Any]:
        with one_line_errors():
            return read_preset(value, words, {SPELLINGS.get(name, name) for name in kind.model_fields})

    return read


def _group(name: str, summary: str) -> typer.Typer:
    for info in app.registered_groups:
        if info.name == name and info.typer_instance:
            return info.typer_instance
    group = typer.Typer(no_args_is_help=True, help=summary)
    app.add_typer(group, name=name)
    return group


def _trainer(name: str, kind: type[Any]) -> Callable[[dict[str, Any]], None]:
    def train(values: dict[str, Any]) -> None:
        with one_line_errors():
            from segtrain.config import checked

            config = checked(kind, values)
            # torch takes seconds to import: not before the settings are known to be good.
            typer.echo(importlib.import_module(f"segtrain.methods.{name}.method").train(config))

    return train


for _name in methods():
    add_method(_name)


@app.command("eval")
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
        typer.Option(metavar="FOLDER", help="new folder for the uncertainty of each picture as a grey PNG"),
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
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="write the scores here as well; replaces scores, nothing else"),
    ] = None,
    device: Annotated[str, typer.Option(metavar="TEXT", help="auto, cpu, cuda, cuda:1, mps")] = "auto",
) -> None:
    """Print the IoU of each class, mIoU and boundary F of a model on labelled images.

    mIoU is the mean over the classes present in ground truth or prediction; pixels with id 254 or 255 are excluded. A
    few-shot model is also scored as base, novel, mean and harmonic mIoU, in the three conventions of the field.

    segtrain eval --model runs/novel --data held-out

    segtrain eval --model runs/multi-shift --data RoadAnomaly --anomaly --maps uncertainty

    segtrain eval --model model --data acdc --data bdd --domain ACDC --domain BDD100K --by-domain

    segtrain eval --model runs/iccld --data held-out --samples 5 --maps uncertainty
    """
    with one_line_errors():
        from segtrain.evaluate import evaluate as run
        from segtrain.evaluate import require_replaceable
        from segtrain.files import write_whole

        if json_file:
            require_replaceable(json_file)
        from segtrain.evaluate_anomaly import anomaly_options, evaluate_anomaly

        other = {"--novel": bool(novel), "--by-domain": by_domain, "--domain": bool(domain)}
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
            )
        typer.echo(scores.table())
        if json_file:
            write_whole(json_file, json.dumps(scores.to_json(), indent=2).encode())
