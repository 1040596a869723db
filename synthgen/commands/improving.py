"""`synthgen improve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segkit.printable import examples
from synthgen.commands.arguments import Sets, on_disk, one_line_errors
from synthgen.commands.stages import carry_on, quiet_hubs

commands = typer.Typer()


@commands.command(
    rich_help_panel="Make a dataset",
    epilog=examples(
        "synthgen improve runs/mine --model model --validation held-out",
        "synthgen improve runs/mine --model model --validation held-out --rounds 2",
        "synthgen improve runs/mine --model m --validation v --beside my_photos",
        "synthgen improve runs/mine --model m --validation v --power 0 --out alike",
    ),
)
def improve(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run folder, for example runs/syn4seg-mini", callback=on_disk)
    ],
    model: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="What `segtrain train` has made of the run's dataset (and --beside)",
            callback=on_disk,
        ),
    ],
    validation: Annotated[
        str, typer.Option(metavar="FOLDER", help="Labelled images that say what the model is weak at")
    ],
    beside: Annotated[
        list[str] | None,
        typer.Option(metavar="FOLDER", help="What the model learnt from beside the run's dataset, in that order"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Runs, models and scores of the rounds; default: RUN.improve", callback=on_disk
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(metavar="N", min=1, max=100, help="Rounds at the most")] = 3,
    images: Annotated[int, typer.Option(metavar="N", min=0, help="Images to make a round; 0 = as many as the run")] = 0,
    power: Annotated[
        float,
        typer.Option(metavar="P", min=0, max=10, help="Weights are (1 - IoU)^P; 0 = all classes and domains alike"),
    ] = 1.0,
    floor: Annotated[
        float, typer.Option(metavar="W", min=0.01, max=1, help="The least weight, in units of the mean one")
    ] = 0.25,
    min_gain: Annotated[
        float, typer.Option(metavar="POINTS", help="Stop after a round that gains less mIoU than this")
    ] = 0.5,
    sets: Sets = None,
    train: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="A further word for `segtrain train`: --train=--device --train=cuda"),
    ] = None,
) -> None:
    """Find what a model is weak at, make images for that, train anew; again while it gains.

    Every round is a run of its own, trained with the settings and steps of the model that is given.
    """
    with one_line_errors():
        from synthgen import pipeline
        from synthgen.classes import wanted_classes
        from synthgen.improve.rounds import Plan, best_of
        from synthgen.improve.rounds import improve as rounds_of
        from synthgen.labels import read_label_space
        from synthgen.recipe import Recipe

        quiet_hubs()
        wanted: dict[str, None] = {}  # classes that samples are made for; the scores know others too

        def make(recipe: Recipe, folder: Path) -> None:
            pinned, _ = pipeline.begin(recipe, folder)
            carry_on(pinned, folder)
            labels = wanted_classes(recipe, read_label_space(recipe.labels.space))
            wanted.update(dict.fromkeys(label.name for label in labels))

        plan = Plan(
            run,
            model,
            validation,
            out or Path(f"{run}.improve"),
            beside=tuple(beside or ()),
            rounds=rounds,
            images=images,
            power=power,
            floor=floor,
            min_gain=min_gain / 100,
            sets=tuple(sets or ()),
            train=tuple(train or ()),
        )
        done = []
        for one in rounds_of(plan, make):
            done.append(one)
            asked = [(name, weight) for name in wanted if (weight := one.need.of_class(name)) is not None]
            weakest = sorted(asked, key=lambda item: -item[1])[:5]
            typer.echo(
                f"round {one.number}: {one.kept} of {one.images} images kept, most for "
                + ", ".join(f"{name} x {weight:.2f}" for name, weight in weakest)
                + f"; mIoU {100 * one.miou:.2f} ({100 * one.gain:+.2f})"
            )
            if one.stops:
                typer.echo(f"ended: {one.stops}")
        typer.echo(
            f"best on {validation}: {best_of(plan, done)}. That set chose what was made, so it flatters: score the "
            "model on images that took no part"
        )
