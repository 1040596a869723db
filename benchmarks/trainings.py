"""Trainings as a user starts them, each with its scores kept: what the tables of the trainer's methods are made of.

A training is `segtrain METHOD ...` in a process of its own with one thread; as many run at once as the machine has
cores. Its scores are kept in a file with the words of the command, so a killed benchmark goes on where it stopped, and
one whose words have changed is measured again; the model is removed, unless others begin with it. `benchmarks.kept`
carries such files from machine to machine.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.row import device

ROOT = Path(__file__).parents[1]
Words = tuple[str, ...]
earlier_s: list[float] = []  # what the trainings took whose scores were there already; benchmarks.run adds it


@dataclasses.dataclass(frozen=True, slots=True)
class Training:
    """`train` are the words behind `segtrain`, without --out; `evaluations` those behind `segtrain eval` by name,
    without --model and --json, or a function that gives them from the scores before. `keep` = the model stays.
    """

    name: str
    train: Words
    evaluations: Mapping[str, Words | Callable[[Mapping[str, Any]], Words]]
    keep: bool = False


def model_of(name: str, place: Path) -> Path:
    """The folder of a training's model: whole once `scores` has given those of a training that keeps it."""
    return place / "models" / name


def scores(trainings: Iterable[Training], place: Path) -> dict[str, dict[str, Any]]:
    """The scores of each training by name, then by evaluation, as `segtrain eval --json` writes them.

    What is measured already is read from `place`. Raises CalledProcessError with the output of what failed on screen.
    """
    wanted = list(trainings)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        made = list(pool.map(lambda training: _measured(training, place), wanted))
    return {training.name: found for training, found in zip(wanted, made, strict=True)}


def whole(folder: Path, make: Callable[[Path], object]) -> Path:
    """A scratch folder that is there whole or not at all: `make` writes it where it lacks."""
    if not folder.exists():
        temporary = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.parent.mkdir(parents=True, exist_ok=True)
        make(temporary)
        temporary.rename(folder)
    return folder


def dataset_of(recipe: str, run: Path, sets: Iterable[str]) -> Path:
    """The dataset of `synthgen run` with those settings; made where it lacks, a killed run goes on.

    Raises CalledProcessError.
    """
    dataset = run / "dataset"
    if not (dataset / "index.json").is_file():
        command = [sys.executable, "-m", "synthgen", "run", recipe, "--runs", str(run.parent), "--run", run.name]
        subprocess.run([*command, *(word for setting in sets for word in ("--set", setting))], check=True)
    return dataset


def remembered(
    name: str, train: Iterable[str], place: Path, measure: Callable[[], dict[str, Any]], *, anew: bool = False
) -> dict[str, Any]:
    """What `measure` gives, kept in `place` with the words that made it; other words or `anew` measure again."""
    path = place / "scores" / f"{name}.json"
    words = [word.replace(str(place), "PLACE").replace(str(ROOT), "ROOT") for word in train]
    if path.is_file() and not anew:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["train"] == words:
            earlier_s.append(kept["seconds"])
            return dict(kept["scores"])
    began = time.monotonic()
    found = measure()
    kept = {"train": words, "device": device(), "seconds": round(time.monotonic() - began), "scores": found}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(kept), encoding="utf-8")
    temporary.replace(path)
    return found


def _measured(training: Training, place: Path) -> dict[str, Any]:
    model = model_of(training.name, place)

    def measure() -> dict[str, Any]:
        _segtrain([*training.train, "--out", str(model)])
        found: dict[str, Any] = {}
        for name, words in training.evaluations.items():
            into = model / f"{name}.json"
            words = words(found) if callable(words) else words
            _segtrain(["eval", "--model", str(model), *words, "--json", str(into)])
            found[name] = json.loads(into.read_text(encoding="utf-8"))
        print(f"  {training.name}", flush=True)
        return found

    anew = training.keep and not (model / "config.json").is_file()
    found = remembered(training.name, training.train, place, measure, anew=anew)
    if not training.keep:
        shutil.rmtree(model, ignore_errors=True)
    return found


def call(*words: str) -> None:
    """`python -m` with those words, on one thread. Raises CalledProcessError with the end of its output on screen."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", *words], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout[-2_000:], done.stderr[-2_000:], file=sys.stderr, flush=True)
        done.check_returncode()


def _segtrain(words: list[str]) -> None:
    call("segtrain", *words)
