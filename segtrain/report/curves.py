"""The curves of a training, from its TensorBoard log, as drawings of a page."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

_MOST_POINTS = 500
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 460, 190, 66, 22, 8
_TITLES = {
    "train/loss": "training loss",
    "validation/miou": "mIoU on the validation set, percent",
    "train/learning_rate": "learning rate",
    "train/steps_per_s": "steps a second",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Curve:
    """Values by the number of steps done, in order."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def title(self) -> str:
        return _TITLES.get(self.name, self.name.removeprefix("train/").replace("_", " "))


@dataclasses.dataclass(frozen=True, slots=True)
class Drawing:
    """A curve in a box of `width` x `height`; lines are lists of "x,y" as SVG has them, ticks are (place, text)."""

    title: str
    last: str
    width: int
    height: int
    left: int
    line: str
    mean: str  # the running mean of a curve of many points, else empty
    dots: tuple[tuple[float, float, str], ...]  # x, y, text; of a curve of few points
    across: tuple[tuple[float, str], ...]
    up: tuple[tuple[float, str], ...]


def read_curves(run: Path) -> dict[str, Curve]:
    """Every scalar of the log by its name; what is not finite is left out. Empty if there is no log."""
    if not (run / "tensorboard").is_dir():
        return {}
    logging.getLogger("tensorboard").setLevel(logging.WARNING)  # it says of every log that no other follows
    log = EventAccumulator(str(run / "tensorboard"), size_guidance={SCALARS: 0}).Reload()
    curves = {}
    for name in log.Tags()[SCALARS]:
        # A training that was killed may have left a point twice: the later one counts.
        points = {event.step: event.value for event in log.Scalars(name) if np.isfinite(event.value)}
        if points:
            steps = sorted(points)
            curves[name] = Curve(name, tuple(steps), tuple(points[step] for step in steps))
    return curves


def chosen(curves: dict[str, Curve]) -> list[Curve]:
    """What a page shows: loss and validation first, then what the method logs, then rate and speed."""
    shown = [n for n in curves if n == "validation/miou" or n.startswith("train/")]
    first = ["train/loss", "validation/miou"]
    last = ["train/learning_rate", "train/steps_per_s"]
    order = [*first, *(n for n in shown if n not in (*first, *last)), *last]
    return [curves[n] for n in order if n in curves]


def drawing(curve: Curve) -> Drawing:
    """The y axis is as high as the values. mIoU is in percent, as everywhere on the page, and begins at 0."""
    keep = np.unique(np.linspace(0, len(curve.steps) - 1, _MOST_POINTS).round().astype(int))
    steps, values = np.array(curve.steps)[keep], np.array(curve.values)[keep]
    form = ".4g"
    if curve.name == "validation/miou":
        values, form = 100 * values, ".2f"
    low, high = values.min(), values.max()
    if curve.name == "validation/miou":
        low = 0.0
    if high - low < 1e-12:
        low, high = low - abs(low) / 2 - 1e-6, high + abs(high) / 2 + 1e-6
    span = max(1, steps[-1] - steps[0])
    x = _LEFT + (steps - steps[0]) / span * (_WIDTH - _LEFT - 6)
    floor = _HEIGHT - _BOTTOM

    def place(at: np.ndarray) -> np.ndarray:
        return floor - (at - low) / (high - low) * (floor - _TOP)

    mean = _polyline(x, place(_running_mean(values))) if len(values) > 20 else ""
    few = len(values) <= 20
    dots = tuple(
        (round(float(across), 1), round(float(up), 1), f"step {step}: {value:{form}}")
        for across, up, step, value in zip(x, place(values), steps, values, strict=True)
    )
    ends = [(_LEFT, f"{steps[0]}"), (_WIDTH - 6, f"{steps[-1]}")] if len(steps) > 1 else [(_LEFT, f"{steps[0]}")]
    marks = np.linspace(low, high, 3)
    return Drawing(
        curve.title,
        f"{values[-1]:{form}}",
        _WIDTH,
        _HEIGHT,
        _LEFT,
        _polyline(x, place(values)),
        mean,
        dots if few else (),
        tuple((float(at), text) for at, text in ends),
        tuple((round(float(at), 1), f"{mark:.3g}") for at, mark in zip(place(marks), marks, strict=True)),
    )


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Over a tenth of the curve around each point, less at its ends."""
    half = max(1, len(values) // 20)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    begin, end = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    mean: np.ndarray = (sums[end] - sums[begin]) / (end - begin)
    return mean


def _polyline(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> str:
    return " ".join(f"{across:.1f},{up:.1f}" for across, up in zip(x, y, strict=True))
