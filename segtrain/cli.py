"""The command line: no logic."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from segkit.printable import printable
from segtrain.config import TrainConfig, checked, train_config
from segtrain.errors import SegtrainError
from segtrain.few_shot.config import BaseConfig, NovelConfig
from segtrain.options import command_of

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
_DEFAULT = TrainConfig.model_construct(data=(), out=Path())


few_shot = typer.Typer(
    no_args_is_help=True,
    help="Generalised few-shot segmentation: base classes first, then novel ones from a few shots.",
)
app.add_typer(few_shot, name="few-shot")


@app.callback()
def main() -> None:
    """Train semantic segmentation on finished datasets, and score the models."""


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except SegtrainError as error:
        typer.echo(f"segtrain: {printable(error)}", err=True)
        raise typer.Exit(2) from error


def _setting(name: str, *flags: str, **extra: Any) -> Any:
    """An option whose help is the description of the setting."""
    return typer.Option(*flags, help=TrainConfig.model_fields[name].description, **extra)


@app.command()
def train(
    data: Annotated[list[str], _setting("data", "--data", "--folder", metavar="FOLDER", rich_help_panel="Data")],
    out: Annotated[Path, _setting("out", metavar="FOLDER")],
    ratio: Annotated[list[float] | None, _setting("ratio", rich_help_panel="Data")] = None,
    classes: Annotated[Path | None, _setting("classes", metavar="FILE", rich_help_panel="Data")] = None,
    validate: Annotated[
        str | None, _setting("validation", "--validate", metavar="FOLDER", rich_help_panel="Data")
    ] = None,
    shuffle_window: Annotated[int, _setting("shuffle_window", rich_help_panel="Data")] = _DEFAULT.shuffle_window,
    crop: Annotated[int, _setting("crop_px", "--crop", rich_help_panel="Data")] = _DEFAULT.crop_px,
    scale_min: Annotated[float, _setting("scale_min", rich_help_panel="Data")] = _DEFAULT.scale_min,
    scale_max: Annotated[float, _setting("scale_max", rich_help_panel="Data")] = _DEFAULT.scale_max,
    flip: Annotated[float, _setting("flip", rich_help_panel="Data")] = _DEFAULT.flip,
    jitter: Annotated[float, _setting("jitter", rich_help_panel="Data")] = _DEFAULT.jitter,
    arch: Annotated[str, _setting("arch", rich_help_panel="Model")] = _DEFAULT.arch,
    encoder: Annotated[str, _setting("encoder", rich_help_panel="Model")] = _DEFAULT.encoder,
    encoder_weights: Annotated[str, _setting("encoder_weights", rich_help_panel="Model")] = _DEFAULT.encoder_weights,
    decoder_channels: Annotated[str, _setting("decoder_channels", metavar="LIST", rich_help_panel="Model")] = "",
    steps: Annotated[int, _setting("steps", rich_help_panel="Optimisation")] = _DEFAULT.steps,
    batch_size: Annotated[int, _setting("batch_size", rich_help_panel="Optimisation")] = _DEFAULT.batch_size,
    learning_rate: Annotated[float, _setting("learning_rate", rich_help_panel="Optimisation")] = _DEFAULT.learning_rate,
    weight_decay: Annotated[float, _setting("weight_decay", rich_help_panel="Optimisation")] = _DEFAULT.weight_decay,
    schedule: Annotated[
        str, _setting("schedule", metavar="poly|cosine|constant", rich_help_panel="Optimisation")
    ] = _DEFAULT.schedule,
    warmup_steps: Annotated[int, _setting("warmup_steps", rich_help_panel="Optimisation")] = _DEFAULT.warmup_steps,
    seed: Annotated[int, _setting("seed", rich_help_panel="Optimisation")] = _DEFAULT.seed,
    precision: Annotated[
        str, _setting("precision", metavar="auto|float32|bfloat16", rich_help_panel="Optimisation")
    ] = _DEFAULT.precision,
    validate_every: Annotated[int, _setting("validate_every", rich_help_panel="Execution")] = _DEFAULT.validate_every,
    checkpoint_every: Annotated[
        int, _setting("checkpoint_every", rich_help_panel="Execution")
    ] = _DEFAULT.checkpoint_every,
    log_every: Annotated[int, _setting("log_every", rich_help_panel="Execution")] = _DEFAULT.log_every,
    num_workers: Annotated[int, _setting("num_workers", rich_help_panel="Execution")] = _DEFAULT.num_workers,
    num_threads: Annotated[int, _setting("num_threads", rich_help_panel="Execution")] = _DEFAULT.num_threads,
    device: Annotated[str, _setting("device", rich_help_panel="Execution")] = _DEFAULT.device,
) -> None:
    """Train a segmenter, or go on where a killed training of the same settings stopped.

    segtrain train --data runs/demo/dataset --data photos --ratio 1 --ratio 1 --out model
    """
    _log_to_stderr()
    with _one_line_errors():
        config = train_config(
            data=data,
            out=out,
            ratio=ratio or (),
            classes=classes,
            validation=validate,
            shuffle_window=shuffle_window,
            crop_px=crop,
            scale_min=scale_min,
            scale_max=scale_max,
            flip=flip,
            jitter=jitter,
            arch=arch,
            encoder=encoder,
            encoder_weights=encoder_weights,
            decoder_channels=decoder_channels,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            schedule=schedule,
            warmup_steps=warmup_steps,
            seed=seed,
            precision=precision,
            validate_every=validate_every,
            checkpoint_every=checkpoint_every,
            log_every=log_every,
            num_workers=num_workers,
            num_threads=num_threads,
            device=device,
        )
        # torch takes seconds to import: not before the settings are known to be good.
        from segtrain.train import train as run

        typer.echo(run(config))


@app.command("eval")
def evaluate(
    model: Annotated[str, typer.Option(metavar="FOLDER", help="folder that `segtrain train` has written")],
    data: Annotated[str, typer.Option(metavar="FOLDER", help="a finished dataset or a labelled folder")],
    split: Annotated[
        str, typer.Option(help="split of a dataset; default: validation if there is one, else train")
    ] = "",
    novel: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS", help="a novel class, where the model does not say so itself; repeat it for more"),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="write the scores here as well")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps")] = "auto",
) -> None:
    """Print the IoU of each class, mIoU and boundary F of a model on labelled images.

    mIoU is the mean over the classes present in ground truth or prediction; pixels with id 254 or 255 are excluded. A
    few-shot model is also scored as base, novel, mean and harmonic mIoU, in the three conventions of the field.

    segtrain eval --model runs/novel --data held-out
    """
    with _one_line_errors():
        from segtrain.evaluate import evaluate as run
        from segtrain.files import write_whole

        scores = run(model, data, split=split, device=device, novel=tuple(novel or ()))
        typer.echo(scores.table())
        if json_file:
            write_whole(json_file, json.dumps(scores.to_json(), indent=2).encode())


def _few_shot_base(values: dict[str, Any]) -> None:
    _log_to_stderr()
    with _one_line_errors():
        config = checked(BaseConfig, values)
        from segtrain.few_shot.base_learning import learn_base

        typer.echo(learn_base(config))


def _few_shot_novel(values: dict[str, Any]) -> None:
    _log_to_stderr()
    with _one_line_errors():
        config = checked(NovelConfig, values)
        from segtrain.few_shot.novel_learning import learn_novel

        typer.echo(learn_novel(config))


few_shot.command("base")(
    command_of(
        BaseConfig,
        _few_shot_base,
        """Stage 1: learn the base classes of a fold; a killed training is continued by the same command.

        segtrain few-shot base --data drawn --folds pascal-5i --fold 0 --out runs/base
        """,
    )
)
few_shot.command("novel")(
    command_of(
        NovelConfig,
        _few_shot_novel,
        """Stage 2: learn the novel classes from a few shots and, if there is one, a synthetic set; a killed training is continued.

        segtrain few-shot novel --base-model runs/base --data drawn --shots 1 --synthetic runs/made/dataset --out runs/novel
        """,
    )
)


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
