"""Rounds of: score the segmenter, make images for its weak classes and domains, train anew on all, score again.

out/improve.json        what was asked, and every round: scores, weights, images, gain; written after each step
out/run-K/              the run of round K, one as any other: report, verify, lineage from its recipe.lock.yaml
out/model-K/            the segmenter of round K
out/scores-K.json       what `segtrain eval` says of it; 0 = of the model that was given

A killed launch goes on where it stopped: a run and a training do, and scores that are there are read.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from segkit.documents import read_json
from segkit.index import INDEX_FILE, read_index_head
from synthgen import lock
from synthgen.errors import RunError
from synthgen.files import file_digest, write_text
from synthgen.improve import trainer
from synthgen.improve.next_recipe import aimed
from synthgen.ownership import DATASET
from synthgen.prompts.earlier import earlier_text
from synthgen.prompts.need import Need, need_of
from synthgen.recipe import Recipe
from synthgen.stages import stages

STATE = "improve.json"
FORMAT = "synthgen-improve"


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What was asked."""

    run: Path
    model: Path
    validation: str
    out: Path
    beside: tuple[str, ...] = ()  # what the model learnt from beside the run's dataset
    rounds: int = 3
    images: int = 0  # a round; 0 = as many as the run
    power: float = 1.0  # weights are (1 - IoU) ** power; 0 = all classes alike
    floor: float = 0.25  # the least weight, in units of the mean one
    min_gain: float = 0.005  # of mIoU in 0..1, below which the rounds end
    sets: tuple[str, ...] = ()
    train: tuple[str, ...] = ()  # further words for `segtrain train`, as --device cuda


@dataclasses.dataclass(frozen=True, slots=True)
class Round:
    """One round. `need` is what it was made for, of the scores before it."""

    number: int
    need: Need
    images: int
    kept: int
    miou: float
    gain: float  # over the best before it
    stops: str  # why no round follows; "" = one does


def improve(plan: Plan, make: Callable[[Recipe, Path], None]) -> Iterator[Round]:
    """Yield each round as it ends; `make(recipe, folder)` runs a recipe. Raises SynthgenError.

    The validation set decides what is made and when the rounds end, so its scores flatter: what a model is worth is to
    be scored on images that took no part.
    """
    base = _finished_recipe(plan.run)
    options = trainer.trained_with(plan.model)
    trainer.ratio_of(plan.model, len(plan.beside), [1])  # refused before anything is made
    _claim(plan)
    scores = _score(plan, 0, plan.model)
    best, runs, made = scores.miou, [plan.run], []
    for number in range(1, plan.rounds + 1):
        need = need_of(scores.classes, scores.domains, plan.power, plan.floor)
        count = plan.images or stages(plan.run)["prompts"].num_rows() * base.render.images_per_prompt
        run, model = plan.out / f"run-{number}", plan.out / f"model-{number}"
        make(aimed(base, need, count, number, _earlier(plan, number, runs), plan.sets), run)
        runs.append(run)
        sizes = [_num_samples(one) for one in runs]
        data = [*plan.beside, *(str(one / DATASET) for one in runs)]
        trainer.train(options, data, trainer.ratio_of(plan.model, len(plan.beside), sizes), model, plan.train)
        scores = _score(plan, number, model)
        gain = scores.miou - best
        stops = f"a gain below {100 * plan.min_gain:g} points" if gain < plan.min_gain else ""
        if not stops and number == plan.rounds:
            stops = "the last round that was asked for"
        made.append(Round(number, need, count, sizes[-1], scores.miou, gain, stops))
        best = max(best, scores.miou)
        _tell(plan, made)
        yield made[-1]
        if stops:
            return


def best_of(plan: Plan, rounds: Sequence[Round]) -> Path:
    """The model of the highest mIoU on the validation set: the given one if no round gained."""
    first = trainer.read_scores(plan.out / "scores-0.json").miou
    top = max(rounds, key=lambda one: one.miou, default=None)
    return plan.model if top is None or top.miou <= first else plan.out / f"model-{top.number}"


def _finished_recipe(run: Path) -> Recipe:
    recipe = lock.read_lock(run)
    if recipe is None:
        raise RunError(f"{run}: is not a run folder (no {lock.LOCK}); runs lie in runs/ by default")
    if not (run / DATASET / INDEX_FILE).is_file():
        raise RunError(f"{run}: has no dataset yet; `synthgen run` finishes it")
    return recipe


def _claim(plan: Plan) -> None:
    """Raises RunError if the folder holds anything but rounds that were asked for alike."""
    asked, path = _asked(plan), plan.out / STATE
    if path.is_file():
        found = read_json(path, RunError)
        before = found.get("asked") if isinstance(found, dict) and found.get("format") == FORMAT else None
        if before != asked:
            differs = next((k for k in asked if not isinstance(before, dict) or before.get(k) != asked[k]), "more")
            raise RunError(f"{plan.out}: holds rounds with another {differs}; choose another --out")
        return
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
        is_empty = not any(plan.out.iterdir())
    except OSError as error:
        raise RunError(f"{plan.out}: cannot be a folder of rounds ({error.strerror}); choose another --out") from error
    if not is_empty:
        raise RunError(f"{plan.out}: holds files, but no {STATE}; choose a new or an empty folder")
    _tell(plan, [])


def _asked(plan: Plan) -> dict[str, Any]:
    """As plain JSON values; of weights and datasets what they hold, not where they lie. Rounds may be added."""
    return {
        "run": _digest(plan.run / DATASET / INDEX_FILE),
        "model": _digest(plan.model / "model.safetensors"),
        "validation": plan.validation,
        **{name: getattr(plan, name) for name in ("images", "power", "floor", "min_gain")},
        **{name: list(getattr(plan, name)) for name in ("beside", "sets")},
    }


def _tell(plan: Plan, rounds: Sequence[Round]) -> None:
    told = {"format": FORMAT, "asked": _asked(plan), "rounds": [dataclasses.asdict(one) for one in rounds]}
    write_text(json.dumps(told, indent=1), plan.out / STATE)


def _score(plan: Plan, number: int, model: Path) -> trainer.Scores:
    validation = Path(plan.validation)
    says_domains = (validation / "domains.txt").is_file()
    return trainer.score(model, plan.validation, says_domains, plan.out / f"scores-{number}.json", _device(plan.train))


def _device(words: Sequence[str]) -> list[str]:
    """--device of the training, which scoring has too."""
    return list(words[words.index("--device") :][:2]) if "--device" in words else []


def _earlier(plan: Plan, number: int, runs: Sequence[Path]) -> Path | None:
    """A file with the sentences of the runs before; None if none is about a class."""
    found = [
        (row.subject.class_name, row.subject.prompt)
        for run in runs
        for row in stages(run)["prompts"].rows()
        if row.subject.class_name
    ]
    if not found:
        return None
    path = plan.out / f"earlier-{number}.tsv"
    write_text(earlier_text(found), path)
    return path


def _num_samples(run: Path) -> int:
    return read_index_head(run / DATASET).num_samples


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from error
