"""What the closed loop is worth: rows loop/*.

For each seed: 5 labelled drawings a class and the set that the default recipe makes from them train a segmenter. Then
one round of `synthgen improve` with as many images again: aimed at the classes that are weak on 100 labelled drawings
(closed), or all classes alike (uniform: --power 0). Both are trained anew with the steps of the first; scores are those
on 300 other drawings, which chose nothing.

The generator has seen many drawn scenes without masks. Spread is over seeds; a gain is the mean of the differences seed
by seed. Scores of single seeds are kept, as those of trainings are (benchmarks/trainings.py).
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import use
from benchmarks.row import SCRATCH, Row, row_of_seeds
from benchmarks.trainings import Words, call, remembered, whole
from synthgen.drawn.split import write_split

CHOOSE_SEED, TEST_SEED = 5_000, 6_000
POWERS = {"uniform": 0.0, "closed": 1.0}
ROWS = ("loop/before_miou", "loop/uniform_miou", "loop/closed_miou", "loop/gain_over_before", "loop/gain_over_uniform")


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How much of it. The defaults give the rows; smaller ones show that it runs."""

    place: Path = SCRATCH / "loop"
    sets: use.Plan = dataclasses.field(default_factory=use.Plan)  # drawings, their set, network and seeds
    steps: int = 1_200
    choose: int = 100
    test: int = 300
    images: int = 0  # of a round; 0 = as many as the first run


def objects() -> Iterator[Row]:
    """loop/*."""
    yield from rows(Plan())


def rows(plan: Plan) -> Iterator[Row]:
    """Measure what is missing, as many seeds at once as there are cores, then put it together."""
    for name in ("choose", "test"):
        drawings(plan, name)  # here, where no other thread makes them
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        found = list(pool.map(partial(_of_seed, plan), plan.sets.seeds))
    scores = {name: np.array([of_seed[name] for of_seed in found]) for name in ("before", *POWERS)}
    for name, values in scores.items():
        yield row_of_seeds(f"loop/{name}_miou", values)
    for name in ("before", "uniform"):
        yield row_of_seeds(f"loop/gain_over_{name}", scores["closed"] - scores[name])


def drawings(plan: Plan, name: str) -> Path:
    """`choose`, which say what the model is weak at, or `test`."""
    seed, count = (CHOOSE_SEED, plan.choose) if name == "choose" else (TEST_SEED, plan.test)
    return whole(plan.place / f"{name}-{count}", partial(write_split, world="objects", count=count, first_seed=seed))


def first_training(plan: Plan, seed: int) -> Words:
    """Behind `segtrain`, without --out."""
    few, made = use.few(plan.sets, 5, seed), use.made(plan.sets, "", seed)
    words = f"train --data {few} --data {made} --ratio 1 --ratio 1 {plan.sets.network}"
    return tuple(f"{words} --steps {plan.steps} --seed {seed} --num-threads 1".split())


def improvement(plan: Plan, seed: int, power: float) -> Words:
    """Behind `synthgen improve RUN`, without --model and --out."""
    few, images = use.few(plan.sets, 5, seed), plan.images
    words = f"--validation {drawings(plan, 'choose')} --beside {few} --rounds 1 --images {images} --power {power:g}"
    return (*words.split(), "--train=--num-threads", "--train=1")


def _of_seed(plan: Plan, seed: int) -> dict[str, float]:
    def measure() -> dict[str, float]:
        model = plan.place / "models" / f"before-{seed}"
        call("segtrain", *first_training(plan, seed), "--out", str(model))
        scores = {"before": _score(plan, model)}
        for name, power in POWERS.items():
            out = plan.place / "rounds" / f"{name}-{seed}"
            run = use.made(plan.sets, "", seed).parent
            words = ("--model", str(model), *improvement(plan, seed, power), "--out", str(out))
            call("synthgen", "improve", str(run), *words)
            scores[name] = _score(plan, out / "model-1")
        print(f"  seed {seed}: {scores}", flush=True)
        return scores

    rounds = (improvement(plan, seed, power) for power in POWERS.values())
    words = itertools.chain(first_training(plan, seed), *rounds)
    return remembered(f"seed{seed}", words, plan.place, measure)


def _score(plan: Plan, model: Path) -> float:
    told = model.with_name(f"{model.name}.json")
    call("segtrain", "eval", "--model", str(model), "--data", str(drawings(plan, "test")), "--json", str(told))
    return float(json.loads(told.read_text(encoding="utf-8"))["miou"])
