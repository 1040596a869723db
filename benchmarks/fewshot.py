"""Do made images help to learn new classes from few shots? Rows gfss/*:

generalised few-shot segmentation on the drawn objects world.

The protocol is PASCAL-5i's, with drawings: 4 folds of 5 novel classes, 15 base classes, 1 or 5 labelled images a novel
class, every test image labelled with background, base and novel classes in one pass. Six trainings differ in the
further images of the novel classes alone:

none        no synthetic images
classname   one prompt a class, "a photo of a <class>", masks of the proposer
hdig        diverse prompts, masks of the proposer
ape         the same images, masks after APF and APR
sabr        the same images, masks after SABR: the dataset as `synthgen run syn4seg-mini` packs it
true        the ceiling: as many drawings as prompts, with their true masks; no generated set is expected to do better
first       as sabr, but the set is learnt from first and the shots alone at last (`--synthetic-first 0.5`, which was
            chosen in benchmarks/use.py): rows of a benchmark of their own, the gain over a `none` measured beside it

The proposer is the network of `none`, as in the paper: the few-shot network labels the synthetic images that a new one
then learns from. The filter has chosen the images of all four sets. The generator and SAM have learnt from drawings of
all 20 classes (the denoiser and SAM without class ids), as the full-size ones have from the web's pictures; the masks
come from base images and shots alone.

All trainings adapt the decoder, which POP leaves fixed: with fixed features even true images with true masks add little
(docs/LOG.md). A figure is the mean over folds; its spread is over seeds, which choose shots, images and training draws.
Conventions as in segtrain; base, mean and harmonic are those of DIaM.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import drawn_folder
from benchmarks.masks import WITHOUT_PROBABILITIES
from benchmarks.row import SCRATCH, Row, row_of_seeds
from benchmarks.trainings import dataset_of, whole
from segkit.shards import Dataset
from segtrain.config import checked
from segtrain.evaluate import evaluate
from segtrain.files import write_whole
from segtrain.methods.few_shot.base_learning import learn_base
from segtrain.methods.few_shot.config import BaseConfig, NovelConfig
from segtrain.methods.few_shot.folds import novel_of_fold
from segtrain.methods.few_shot.novel_learning import learn_novel
from synthgen import stages
from synthgen.drawn import objects as world
from synthgen.drawn.split import write_split

VARIANTS = ("none", "classname", "hdig", "ape", "sabr", "true")
MEASURES = ("base", "novel", "mean", "harmonic")
SHOTS = (1, 5)
ROWS = (
    *(f"gfss/{shots}shot/{variant}/{measure}" for shots in SHOTS for variant in VARIANTS for measure in MEASURES),
    *(f"gfss/{shots}shot/gain/{measure}" for shots in SHOTS for measure in ("novel", "harmonic")),
    "gfss/minutes",
)
FIRST_ROWS = (
    *(f"gfss/{shots}shot/first/{measure}" for shots in SHOTS for measure in MEASURES),
    *(f"gfss/{shots}shot/gain_first/{measure}" for shots in SHOTS for measure in ("novel", "harmonic")),
)
MASKS = {"classname": "coarse", "hdig": "coarse", "ape": "relabelled"}
TRAIN_SEED, HELD_OUT_SEED, SHOT_SEED, TRUE_SEED = 200_000, 3_000, 5_000_000, 9_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How much of it. The defaults give the rows; smaller ones show that it runs."""

    place: Path = SCRATCH / "gfss"
    folds: tuple[int, ...] = (0, 1, 2, 3)
    shots: tuple[int, ...] = SHOTS
    seeds: tuple[int, ...] = (0, 1, 2)
    train: int = 4000
    held_out: int = 400
    images_per_class: int = 50
    base_steps: int = 1500
    novel_steps: int = 400
    # as all few-shot work does: a frozen network is only as good as what it has seen before
    encoder: str = "tu-tf_efficientnet_lite0"
    encoder_weights: str = "package"
    recipe: tuple[str, ...] = ()  # further --set of the recipe


def objects() -> Iterator[Row]:
    """All rows. What is already measured is not measured again: remove benchmarks/scratch/gfss to begin anew.

    `gfss/minutes` adds up base stages, made images and novel stages; what was lost to a kill is not in it.
    """
    yield from rows(Plan())


def rows(plan: Plan) -> Iterator[Row]:
    """Measure what is missing, then put it together."""
    _draw(plan)
    found: dict[tuple[int, str, int, int], dict[str, float]] = {}
    seconds = 0.0
    for fold in plan.folds:
        seconds += _base(plan, fold)
        for seed in plan.seeds:
            for shots in plan.shots:
                for variant in VARIANTS:
                    scores = found[shots, variant, fold, seed] = _measured(plan, fold, seed, shots, variant)
                    seconds += scores["seconds"]
    for shots in plan.shots:
        for variant in VARIANTS:
            for measure in MEASURES:
                yield row_of_seeds(
                    f"gfss/{shots}shot/{variant}/{measure}", _by_seed(plan, found, shots, variant, measure)
                )
        # spread of the gains of single seeds: a seed's shots are easy or hard for both
        for measure in ("novel", "harmonic"):
            gain = _by_seed(plan, found, shots, "sabr", measure) - _by_seed(plan, found, shots, "none", measure)
            yield row_of_seeds(f"gfss/{shots}shot/gain/{measure}", gain)
    yield Row("gfss/minutes", seconds / 60, "min")


def first() -> Iterator[Row]:
    """gfss/*/first/*, gfss/*/gain_first/*."""
    yield from first_rows(Plan())


def first_rows(plan: Plan) -> Iterator[Row]:
    """Measure what is missing, then put it together."""
    _draw(plan)
    found: dict[tuple[int, str, int, int], dict[str, float]] = {}
    for fold in plan.folds:
        _base(plan, fold)
        for seed in plan.seeds:
            for shots in plan.shots:
                for variant in ("none", "first"):
                    found[shots, variant, fold, seed] = _measured(plan, fold, seed, shots, variant)
    for shots in plan.shots:
        for measure in MEASURES:
            first = _by_seed(plan, found, shots, "first", measure)
            yield row_of_seeds(f"gfss/{shots}shot/first/{measure}", first)
            if measure in ("novel", "harmonic"):
                gain = first - _by_seed(plan, found, shots, "none", measure)
                yield row_of_seeds(f"gfss/{shots}shot/gain_first/{measure}", gain)


def _draw(plan: Plan) -> None:
    for name, count, seed in (("train", plan.train, TRAIN_SEED), ("held-out", plan.held_out, HELD_OUT_SEED)):
        whole(plan.place / name, partial(write_split, world="objects", count=count, first_seed=seed))


def _by_seed(
    plan: Plan, found: dict[tuple[int, str, int, int], dict[str, float]], shots: int, variant: str, measure: str
) -> np.ndarray:
    """Mean over the folds, for each seed."""
    return np.array(
        [np.mean([found[shots, variant, fold, seed][measure] for fold in plan.folds]) for seed in plan.seeds]
    )


def _base(plan: Plan, fold: int) -> float:
    """Stage 1 of a fold; the seconds that it took."""
    out = plan.place / f"base-fold{fold}"
    timing = plan.place / f"base-fold{fold}.json"
    began = time.monotonic()
    values = {
        "data": [str(plan.place / "train")],
        "out": out,
        "folds": "pascal-5i",
        "fold": fold,
        "encoder": plan.encoder,
        "encoder_weights": plan.encoder_weights,
        "steps": plan.base_steps,
        "learning_rate": 1e-3,
        "num_threads": 1,
    }
    learn_base(checked(BaseConfig, values))
    if not timing.is_file():
        write_whole(timing, json.dumps({"seconds": time.monotonic() - began}).encode())
    return float(json.loads(timing.read_text(encoding="utf-8"))["seconds"])


def _measured(plan: Plan, fold: int, seed: int, shots: int, variant: str) -> dict[str, float]:
    """Stage 2 with one kind of synthetic images, and its scores."""
    name = f"{shots}shot-{variant}-fold{fold}-seed{seed}"
    path = plan.place / "scores" / f"{name}.json"
    if path.is_file():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    began = time.monotonic()
    support = _support(plan, fold, seed, shots)
    out = plan.place / "novel" / name
    values: dict[str, Any] = {
        "base_model": plan.place / f"base-fold{fold}",
        "data": [str(plan.place / "train")],
        "support": str(support),
        "shots": shots,
        "synthetic": _added(plan, fold, seed, shots, variant),
        "synthetic_ratio": 1 / shots,  # a class's synthetic images together weigh as much as one shot
        "synthetic_first": 0.5 if variant == "first" else 0.0,
        "out": out,
        "steps": plan.novel_steps,
        "learning_rate": 2e-3,
        "schedule": "cosine",
        "novel_start": "support",
        "learn_decoder": True,
        "seed": seed,
        "num_threads": 1,
    }
    learn_novel(checked(NovelConfig, values))
    scores = evaluate(out, plan.place / "held-out")
    diam = next(s for s in scores.few_shot if s.convention == "diam")
    found = {measure: getattr(diam, measure) for measure in MEASURES} | {"seconds": time.monotonic() - began}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(found).encode())
    if variant != "none":  # that one is the proposer of the others
        shutil.rmtree(out)  # 120 of them would fill the disk
    print(f"  {name}: novel {found['novel']:.3f} base {found['base']:.3f}", flush=True)
    return found


def _support(plan: Plan, fold: int, seed: int, shots: int) -> Path:
    """A labelled folder with `shots` drawings of each novel class;

    the shot of a seed's 1-shot run is the first of its 5-shot run.
    """

    return _drawings(
        plan.place / "support" / f"fold{fold}-seed{seed}-{shots}shot", fold, SHOT_SEED + 10_000 * seed, shots
    )


def _drawings(place: Path, fold: int, first_seed: int, per_class: int) -> Path:
    """A labelled folder with so many drawings of each novel class."""
    return drawn_folder.drawings(
        place,
        (
            (f"{name}_{number}", first_seed + 100 * world.CLASSES.index(name) + number, name)
            for name in novel_of_fold("pascal-5i", fold)
            for number in range(per_class)
        ),
    )


def _added(plan: Plan, fold: int, seed: int, shots: int, variant: str) -> list[str]:
    """What stage 2 gets beside the shots."""
    if variant == "none":
        return []
    if variant == "true":
        return [
            str(
                _drawings(
                    plan.place / "true" / f"fold{fold}-seed{seed}",
                    fold,
                    TRUE_SEED + 10_000 * seed,
                    plan.images_per_class,
                )
            )
        ]
    return [str(_synthetic(plan, fold, seed, shots, variant))]


def _synthetic(plan: Plan, fold: int, seed: int, shots: int, variant: str) -> Path:
    """A dataset or labelled folder of made images of the novel classes."""
    run = _run(plan, fold, seed, shots, "classname" if variant == "classname" else "hdig")
    if variant in ("sabr", "first"):
        return run / "dataset"
    field = MASKS[variant]
    masks = {row.key: run / getattr(row, field) for row in stages.stages(run)["refine"].iter_rows()}

    def make(folder: Path) -> None:
        for name in ("images", "labels"):
            (folder / name).mkdir(parents=True)
        shutil.copy(plan.place / "train" / "labels.yaml", folder / "labels.yaml")
        for sample in Dataset(run / "dataset"):
            (folder / "images" / f"{sample.key}.jpg").write_bytes(sample.encoded[0])
            shutil.copy(masks[sample.key], folder / "labels" / f"{sample.key}.png")

    return whole(plan.place / "masks" / f"{run.name}-{field}", make)


def _run(plan: Plan, fold: int, seed: int, shots: int, kind: str) -> Path:
    """`synthgen run syn4seg-mini` for the fold's novel classes with their shots as the support set."""
    runs = plan.place / "runs"
    run = runs / f"{kind}-fold{fold}-seed{seed}-{shots}shot"
    if (run / "dataset" / "index.json").is_file():
        return run
    novel = novel_of_fold("pascal-5i", fold)
    sets = [
        f"labels.classes=[{', '.join(novel)}]",
        f"support.folder={_support(plan, fold, seed, shots)}",
        "support.drawn=null",
        f"support.shots={shots}",
        f"refine.proposer={{name: segmenter, space: objects, model: {_proposer(plan, fold, seed, shots)}}}",
        f"seed={seed}",
        *WITHOUT_PROBABILITIES,
        "filter.rules.max_class_rank=-1",
        *plan.recipe,
    ]
    if kind == "classname":
        prompts = plan.place / f"classnames-fold{fold}.txt"
        write_whole(prompts, "".join(f"a photo of a {world.SPOKEN[name]}\n" for name in novel).encode())
        sets += [
            f"prompts.source={{name: file, path: '{prompts}'}}",
            "prompts.per_class=1",
            f"render.images_per_prompt={plan.images_per_class}",
        ]
    else:
        sets += [f"prompts.per_class={plan.images_per_class}"]
    _take_renders(runs, run, shots)
    return dataset_of("syn4seg-mini", run, sets).parent


def _proposer(plan: Plan, fold: int, seed: int, shots: int) -> Path:
    """The network of `none`."""
    name = f"{shots}shot-none-fold{fold}-seed{seed}"
    if not (plan.place / "novel" / name / "model.safetensors").is_file():
        (plan.place / "scores" / f"{name}.json").unlink(missing_ok=True)
        _measured(plan, fold, seed, shots, "none")
    return plan.place / "novel" / name


def _take_renders(runs: Path, run: Path, shots: int) -> None:
    """Prompts and images do not depend on the shots:

    what the run with other shots has rendered is linked, not rendered again.
    """
    for other in SHOTS:
        sibling = runs / run.name.replace(f"-{shots}shot", f"-{other}shot")
        if other == shots or run.exists() or not (sibling / "dataset" / "index.json").is_file():
            continue

        def link(folder: Path, sibling: Path = sibling) -> None:
            for stage in ("prompts", "render"):
                shutil.copytree(sibling / stage, folder / stage, copy_function=os.link)

        whole(run, link)
