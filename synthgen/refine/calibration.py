"""Thresholds of APF and APR that the recipe leaves open (`auto`): chosen from the support set, once a run.

Every support image is labelled by the others (synthgen/refine/leave_one_out.py) at every point of a grid; the point of
the highest mean IoU is taken, of equal ones that nearest to the defaults. Where no class is shown by two support images
nothing can be left out, and the defaults hold.

What was chosen lies in the stage's folder, in a hidden file named after the stage's settings. The first worker's holds:
a resumed run, another worker or rank, and another machine read it, whatever their own arithmetic would give.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segkit.documents import read_json
from segkit.errors import InputError
from synthgen import claims, storage
from synthgen.backends import statement
from synthgen.errors import RecipeError, RunError
from synthgen.files import write_first
from synthgen.refine.leave_one_out import Case, iou_grid
from synthgen.runner import StageRun
from synthgen.settings import AUTO, Apf, Apr, Refine

log = logging.getLogger(__name__)

_COSINES = tuple(n / 20 for n in range(20))
VALUES: dict[str, tuple[float, ...]] = {
    "lambda_apf": _COSINES,
    "min_cosine": _COSINES,
    "min_margin": (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3),
}
"""What is tried for each threshold, the default among it [ours]."""
_STEPS = {"lambda_apf": "apf", "min_cosine": "apr", "min_margin": "apr"}  # whose setting each threshold is
_EQUAL = 6  # decimals of a mean IoU: further ones are rounding


@dataclasses.dataclass(frozen=True, slots=True)
class Thresholds:
    """Of APF and APR, each a number."""

    lambda_apf: float
    min_cosine: float
    min_margin: float


DEFAULTS = Thresholds(
    Apf.model_fields["lambda_apf"].default,
    Apr.model_fields["min_cosine"].default,
    Apr.model_fields["min_margin"].default,
)
WHITENED = Thresholds(0.0, 0.0, 0.0)
"""The defaults for whitened features: a look of no class in particular has a cosine near 0 to all of them [ours]."""


@dataclasses.dataclass(frozen=True, slots=True)
class Calibration:
    """What was chosen and why. `num_cases` 0: nothing could be left out, the open thresholds are the defaults."""

    thresholds: Thresholds  # those that the recipe fixes, too
    num_cases: int  # images that were left out, one counted for each class that it was asked for
    iou: float  # their mean, at `thresholds`; 0 without cases
    default_iou: float  # with the defaults for what is open
    # open threshold -> (value, mean IoU) of all values tried, the other thresholds as chosen
    curves: Mapping[str, tuple[tuple[float, float], ...]]


def open_thresholds(refine: Refine) -> tuple[str, ...]:
    """Names of the thresholds that are `auto` and take part; a step that is off has none."""
    return _open(refine.model_dump(include={"apf", "apr"}))


def _open(refine: Mapping[str, Any]) -> tuple[str, ...]:
    """`open_thresholds` of the section as plain values."""
    return tuple(name for name, step in _STEPS.items() if refine[step]["enabled"] and refine[step][name] == AUTO)


def refuse_open_without_masks(refine: Refine) -> None:
    """Raise RecipeError if a threshold is to be found by a proposer that cannot label support images."""
    open_ones, proposer = open_thresholds(refine), refine.proposer.model_dump()
    if open_ones and statement("proposer", proposer, "needs_layout", False):
        raise RecipeError(
            f"refine: {open_ones[0]} is auto, but the proposer {proposer['name']!r} labels only what was rendered from "
            "a label map, so it cannot try thresholds on the support images; give a number"
        )
    if open_ones and statement("proposer", proposer, "trains", False):
        raise RecipeError(
            f"refine: {open_ones[0]} is auto, but the proposer {proposer['name']!r} would be trained anew for every "
            "support image that is left out; give a number"
        )


def numbers(refine: Refine) -> Thresholds:
    """The recipe's thresholds, the default for one that is `auto`."""
    default = DEFAULTS if refine.whitening is None else WHITENED
    given = {name: getattr(getattr(refine, step), name) for name, step in _STEPS.items()}
    return Thresholds(**{k: getattr(default, k) if v == AUTO else float(v) for k, v in given.items()})


def with_thresholds(refine: Refine, found: Thresholds) -> Refine:
    """The section with these numbers."""
    apf = refine.apf.model_copy(update={"lambda_apf": found.lambda_apf})
    apr = refine.apr.model_copy(update={"min_cosine": found.min_cosine, "min_margin": found.min_margin})
    return refine.model_copy(update={"apf": apf, "apr": apr})


def calibrate(cases: Iterable[Case], refine: Refine, background: int | None) -> Calibration:
    """Choose the open thresholds of `refine` by the mean IoU over `cases`. Deterministic.

    A logged warning if there is no case.
    """
    open_ones, default = open_thresholds(refine), dataclasses.asdict(numbers(refine))
    grid = {name: VALUES[name] if name in open_ones else (value,) for name, value in default.items()}
    total, count = np.zeros([len(values) for values in grid.values()]), 0
    for case in cases:
        total, count = total + iou_grid(case, refine, grid, background), count + 1
    if not count:
        log.warning("%s", _fallback(open_ones, default))
        return Calibration(Thresholds(**default), 0, 0.0, 0.0, {})
    mean = np.round(total / count, _EQUAL)
    point = _nearest(np.argwhere(mean == mean.max()), grid, default)
    chosen = {name: grid[name][n] for name, n in zip(grid, point, strict=True)}
    curves = {}
    for axis, name in enumerate(grid):
        if name in open_ones:
            line = mean[tuple(slice(None) if other == axis else n for other, n in enumerate(point))]
            curves[name] = tuple((value, float(iou)) for value, iou in zip(grid[name], line, strict=True))
    at_default = tuple(grid[name].index(default[name]) for name in grid)
    return Calibration(Thresholds(**chosen), count, float(mean[point]), float(mean[at_default]), curves)


def _nearest(
    points: np.ndarray, grid: Mapping[str, tuple[float, ...]], default: Mapping[str, float]
) -> tuple[int, ...]:
    """Of points (N, 3) on the grid the one of the least sum of distances to the defaults, the first of equals."""
    away = sum(
        np.abs(np.asarray(values)[points[:, axis]] - default[name]) for axis, (name, values) in enumerate(grid.items())
    )
    return tuple(int(n) for n in points[int(np.argmin(np.round(away, _EQUAL)))])


def _fallback(open_ones: Iterable[str], used: Mapping[str, float]) -> str:
    values = ", ".join(f"{name} {used[name]:g}" for name in open_ones)
    return f"no class is shown by two support images, so nothing can be left out: {values} by default"


def recorded(stage: StageRun) -> Calibration | None:
    """What the run has chosen; None if it has not yet, or if nothing is open. Raises RunError for a damaged record."""
    path = _record(stage)
    if path is None:
        return None
    storage.refresh(path)
    if not path.is_file():
        return None
    try:
        body = read_json(path)
        curves = {
            str(name): tuple((float(value), float(iou)) for value, iou in line)
            for name, line in body.pop("curves").items()
        }
        thresholds = Thresholds(**{name: float(value) for name, value in body.pop("thresholds").items()})
        ious = float(body["iou"]), float(body["default_iou"])
        return Calibration(thresholds, int(body["num_cases"]), *ious, curves)
    except (InputError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise RunError(f"{path}: is damaged ({error}); remove it and run the same command again") from error


def record(found: Calibration, stage: StageRun) -> Calibration:
    """Keep it in the stage's folder; gives what another worker has kept before, if one has. A folder that is not
    claimed keeps nothing. Raises StorageError in one line."""
    path = _record(stage)
    if path is None:
        return found
    written = write_first(json.dumps(dataclasses.asdict(found), indent=1) + "\n", path) and storage.publish_first(path)
    return found if written else recorded(stage) or found


def _record(stage: StageRun) -> Path | None:
    """None in a folder without a claim: it is nobody's run."""
    if not stage.is_claimed():
        return None
    return stage.folder / f".calibration-{claims.fingerprint(stage.claim()['settings'])}.json"


def calibration_text(stage: StageRun) -> list[str]:
    """A line for a run's summary; none where the recipe fixes every threshold."""
    found = recorded(stage)
    if found is None:
        return []
    open_ones = _open(stage.claim()["settings"]["refine"])
    used = dataclasses.asdict(found.thresholds)
    if not found.num_cases:
        return [f"masks: {_fallback(open_ones, used)}"]
    values = ", ".join(f"{name} {used[name]:g}" for name in open_ones)
    return [
        f"masks: by the support set {values}: left out, its images have IoU {found.iou:.3f} "
        f"({found.default_iou:.3f} at the defaults; {found.num_cases} cases)"
    ]
