"""The trainer as this package knows it: a command, `segtrain`, and the JSON files that it writes.

A model is trained anew in every round, with the settings of the one it began with, so that a gain is one of data and
not of more steps.
"""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from segkit.documents import read_json
from synthgen.errors import InputError, RunError
from synthgen.files import write_text

_OF_THE_DATA = ("sources", "label_space", "ratio")  # of a model's settings.json: what it learnt from, not how
_SCORES = "segtrain-scores"


@dataclasses.dataclass(frozen=True, slots=True)
class Scores:
    """In 0..1; None where there is nothing to score. Classes of the validation set that have a pixel there."""

    miou: float
    classes: dict[str, float | None]
    domains: dict[str, float | None]


def trained_with(model: Path) -> dict[str, Any]:
    """The options of `segtrain train` that a model was made with. Raises InputError."""
    settings = read_json(model / "settings.json", InputError)
    if (
        not isinstance(settings, dict)
        or not {"arch", "crop_px"} <= set(settings)
        or not (model / "config.json").is_file()
    ):
        raise InputError(f"{model}: is no finished model of `segtrain train` (settings.json, config.json)")
    if settings.get("init_from"):
        raise InputError(
            f"{model}: went on from the weights of another model (--init-from), which it does not name; give one that "
            "was trained in one go"
        )
    options = {key: value for key, value in settings.items() if key not in _OF_THE_DATA}
    options["crop"] = options.pop("crop_px")  # as the command line has it
    lists = {key: ",".join(map(str, value)) for key, value in options.items() if isinstance(value, list) and value}
    return {key: value for key, value in (options | lists).items() if value not in (None, [])}


def ratio_of(model: Path, num_others: int, num_made: Sequence[int]) -> list[float]:
    """The shares of the sources of the next training, [] for none: those of the model's settings, the last one divided
    among the datasets that were made, by their samples.

    Raises InputError if the model had other sources than `num_others` and one dataset.
    """
    settings = read_json(model / "settings.json", InputError)
    sources, ratio = settings.get("sources", []), settings.get("ratio") or []
    if len(sources) != num_others + 1:
        raise InputError(
            f"{model}: learnt from {len(sources)} sources; name each but the run's dataset with --beside, "
            f"{len(sources) - 1} in all, {num_others} are given"
        )
    if not ratio:
        return []
    return [*ratio[:-1], *(ratio[-1] * number / sum(num_made) for number in num_made)]


def train(
    options: dict[str, Any], data: Sequence[str], ratio: Sequence[float], out: Path, extra: Sequence[str]
) -> None:
    """Train, or go on where a killed training stopped. Raises RunError; the trainer has told why."""
    preset = out.with_name(f"{out.name}.train.yaml")
    preset.parent.mkdir(parents=True, exist_ok=True)
    write_text(yaml.safe_dump({"command": "train", **options}, sort_keys=False), preset)
    words = ["train", "--preset", str(preset), *(word for place in data for word in ("--data", place))]
    words += [word for share in ratio for word in ("--ratio", repr(share))]
    _segtrain([*words, "--out", str(out), *extra], quiet=False)


def score(model: Path, validation: str, by_domain: bool, into: Path, extra: Sequence[str]) -> Scores:
    """Scores of a model, read from `into` where they are there already. Raises RunError."""
    if not into.is_file():
        words = ["eval", "--model", str(model), "--data", validation, *(["--by-domain"] if by_domain else [])]
        _segtrain([*words, "--json", str(into), *extra], quiet=True)
    return read_scores(into)


def read_scores(path: Path) -> Scores:
    """What `segtrain eval --json` wrote. Raises RunError."""
    found = read_json(path, RunError)
    if not isinstance(found, dict) or found.get("format") != _SCORES or not isinstance(found.get("miou"), float):
        raise RunError(f"{path}: holds no scores of `segtrain eval`; remove it")
    classes = {c["name"]: c["iou"] if c["pixels"] else None for c in found["classes"]}
    return Scores(found["miou"], classes, {d["name"]: d["miou"] for d in found["domains"]})


def _segtrain(words: Sequence[str], quiet: bool) -> None:
    """What it says goes to the terminal; its table does not where `quiet`."""
    command = [sys.executable, "-m", "segtrain", *words]
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL if quiet else None)
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode:
        raise RunError(f"{shlex.join(['segtrain', *words])}: ended with code {done.returncode}, for the reason above")
