"""Does the default recipe's set make a better segmenter? Rows use/drawn/*.

A few labelled drawings a class; the set of `synthgen run syn4seg-mini` from them as its support; 400 held-out drawings.
Equal steps (1,200 of 8 crops of 64 px), ImageNet Lite0, which has learnt from photographs.

    few                   the labelled drawings alone
    few_plus_synthetic    and the set, one for one
    set_first             the set for half of the steps, then the labelled drawings alone (`--others-first 0.5`)
    unimatch              the set's images without its masks: weak-to-strong consistency, SENSE's way
    agree                 ... and its masks where the teacher says the same
    ceiling               as set_first, as many exact drawings in place of the set
    ceiling_mixed         as few_plus_synthetic, those drawings in place of the set

The generator has seen many drawn scenes with captions and without their masks, its SAM masks of others; the masks of
the set come from the few alone. `gain_*` are differences to `few`, seed by seed. With `shots_N` there are N drawings a
class in place of 5, with `made_N` about N generated images in place of 280; what is kept of them is for the filter to
say. Steps and share were chosen with seed 100: at 600 steps few is undertrained and the mix gives nothing (LOG).
unimatch and agree are as they come, with a teacher for short trainings.
Spread is over seeds (drawings, pictures, network, order).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import drawn_folder
from benchmarks.row import SCRATCH, Row, row_of_seeds
from benchmarks.trainings import Training, dataset_of, scores, whole
from segkit.index import read_index
from synthgen.drawn import objects as world
from synthgen.drawn.split import write_split

WAYS = {  # what is behind `segtrain`; {few}, {made} and {exact} are folders
    "few": "train --data {few}",
    "few_plus_synthetic": "train --data {few} --data {made} --ratio 1 --ratio 1",
    "set_first": "train --data {few} --data {made} --others-first 0.5",
    "unimatch": "unimatch --teacher-decay 0.99 --data {few} --unlabelled {made}",
    "agree": "unimatch --teacher-decay 0.99 --their-masks agree --data {few} --unlabelled {made}",
    "ceiling": "train --data {few} --data {exact} --others-first 0.5",
    "ceiling_mixed": "train --data {few} --data {exact} --ratio 1 --ratio 1",
}
SETTINGS = {"": (5, 14), "shots_1/": (1, 14), "shots_20/": (20, 14), "made_1000/": (5, 50)}  # shots, images a class
CURVE = ("few", "few_plus_synthetic")


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How much of it. The defaults give the rows; smaller ones show that it runs."""

    place: Path = SCRATCH / "use"
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 1_200
    held_out: int = 400
    network: str = "--encoder tu-tf_efficientnet_lite0 --encoder-weights package"
    sets: tuple[str, ...] = ()  # of the recipe


def rows_of(setting: str) -> tuple[str, ...]:
    """The names of the rows of a setting."""
    ways = CURVE if setting else tuple(WAYS)
    return (
        *(f"use/drawn/{setting}{way}_miou" for way in ways),
        *(f"use/drawn/{setting}gain_{way}_miou" for way in ways if way != "few"),
        f"use/drawn/{setting}kept_samples",
    )


def drawn() -> Iterator[Row]:
    """use/drawn/*, 5 drawings a class."""
    yield from rows(Plan(), "")


def curve() -> Iterator[Row]:
    """The same with other numbers of drawings and of generated images."""
    for setting in SETTINGS:
        if setting:
            yield from rows(Plan(), setting)


def rows(plan: Plan, setting: str) -> Iterator[Row]:
    """Measure what is missing, then put it together."""
    ways = CURVE if setting else tuple(WAYS)
    kept = {seed: read_index(made(plan, setting, seed)).num_samples for seed in plan.seeds}
    trainings = [training(plan, setting, way, seed, kept[seed]) for seed in plan.seeds for way in ways]
    found = scores(trainings, plan.place)
    by_way = {
        way: np.array([found[_name(setting, way, seed)]["held_out"]["miou"] for seed in plan.seeds]) for way in ways
    }
    for way, values in by_way.items():
        yield row_of_seeds(f"use/drawn/{setting}{way}_miou", values)
        if way != "few":
            yield row_of_seeds(f"use/drawn/{setting}gain_{way}_miou", values - by_way["few"])
    yield row_of_seeds(f"use/drawn/{setting}kept_samples", np.array([float(n) for n in kept.values()]), "samples")


def training(plan: Plan, setting: str, way: str, seed: int, kept: int) -> Training:
    """`kept` = the number of the set's samples, for the ceiling."""
    places = {"few": few(plan, SETTINGS[setting][0], seed), "made": "", "exact": ""}
    if "{made}" in WAYS[way]:
        places["made"] = made(plan, setting, seed)
    if "{exact}" in WAYS[way]:
        places["exact"] = drawings(plan.place / f"exact-{kept}-{seed}", 50_000_000 + 100_000 * seed, kept)
    words = f"{WAYS[way].format(**places)} {plan.network} --seed {seed} --steps {plan.steps}"
    held_out = whole(plan.place / "held-out", lambda out: write_split(out, "objects", plan.held_out, 3000))
    test = ("--data", str(held_out))
    return Training(_name(setting, way, seed), (*words.split(), "--num-threads", "1"), {"held_out": test})


def _name(setting: str, way: str, seed: int) -> str:
    return f"{setting.replace('/', '-')}{way}-seed{seed}"


def few(plan: Plan, shots: int, seed: int) -> Path:
    """`shots` drawings of each class; more shots hold fewer."""
    return drawings(plan.place / f"few-{shots}-{seed}", 100_000 * (seed + 1), shots * len(world.CLASSES))


def made(plan: Plan, setting: str, seed: int) -> Path:
    """The default recipe's dataset with those drawings as its support set."""
    shots, per_class = SETTINGS[setting]
    support = few(plan, shots, seed)
    sets = [f"support.folder={support}", "support.drawn=null", f"support.shots={shots}", f"seed={seed}"]
    run = plan.place / "runs" / f"{shots}-{per_class}-{seed}"
    return dataset_of("syn4seg-mini", run, [*sets, f"prompts.per_class={per_class}", *plan.sets])


def drawings(folder: Path, first_seed: int, count: int) -> Path:
    """A labelled folder of drawings, class by class in turn."""
    classes = world.CLASSES
    return drawn_folder.drawings(
        folder, ((f"{n:04d}", first_seed + n, classes[n % len(classes)]) for n in range(count))
    )
