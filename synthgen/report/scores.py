"""The scores that samples are judged by: what they are called, which rule bounds them, and how they are spread."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from segkit.labels import IGNORE
from synthgen.report.run_rows import KEPT, Row
from synthgen.settings import Rules

BINS = 40


@dataclasses.dataclass(frozen=True, slots=True)
class Score:
    """One score of an image. `low` and `high` name the rules that bound it; `off` is the value that switches both off;
    `none` is what stands for no score.
    """

    key: str
    title: str
    explained: str
    low: str = ""
    high: str = ""
    off: float = math.nan
    none: float = math.nan

    def thresholds(self, rules: Rules) -> tuple[float | None, float | None]:
        """(least, most) that pass; None where no rule is on."""
        found = []
        for name in (self.low, self.high):
            value = float(getattr(rules, name)) if name else self.off
            found.append(None if not name or value == self.off else value)
        return found[0], found[1]


SCORES = (
    Score(
        "text_image_score",
        "text-image similarity",
        "cosine of image and prompt in the scorer's space",
        low="min_text_image_score",
        off=-1,
    ),
    Score(
        "class_rank",
        "class rank",
        "place of the wanted class among all classes, 0 = best",
        high="max_class_rank",
        off=-1,
        none=-1,
    ),
    Score(
        "class_fraction",
        "share of the class",
        "share of the final mask that has the wanted class",
        low="min_class_fraction",
        high="max_class_fraction",
    ),
    Score(
        "labelled_fraction", "labelled share", "share of the final mask that is not ignore", low="min_labelled_fraction"
    ),
    Score(
        "region_similarity",
        "region similarity",
        "cosine of the kept regions to the prototype of their class",
        low="min_region_similarity",
        off=-1,
        none=-1,
    ),
    Score("filled_fraction", "refilled share", "share of the pixels freed by APF that APR labelled again"),
    Score("sam_predicted_iou", "SAM's own IoU", "mean of the mask decoder's predicted IoU", none=-1),
    Score("pixel_std", "pixel spread", "standard deviation of the grey image; near 0 is a blank", low="min_pixel_std"),
    Score(
        "nearest_image_similarity",
        "nearest image",
        "cosine to the most similar image kept before it",
        high="max_image_similarity",
        off=1,
        none=-1,
    ),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of a score in equal bins over [low, high], kept and refused apart.

    `bars` are (x, kept height, refused height) in 0..1.
    """

    score: Score
    low: float
    high: float
    median: float
    num_values: int
    num_none: int  # images that have been scored and have none, such as no box
    bars: tuple[tuple[float, float, float], ...]
    counts: tuple[tuple[int, int], ...]
    width: float  # of a bar, in 0..1
    thresholds: tuple[tuple[float, float, str], ...]  # (x in 0..1, value, "at least" or "at most")


def histogram(score: Score, images: Sequence[Row], rules: Rules) -> Histogram | None:
    """None if no image has the score. Images that are refused by an earlier rule count as refused here too."""
    values = np.array([value_of(score, row) for row in images], dtype=np.float64)
    known = np.isfinite(values)
    if not known.any():
        return None
    kept = np.array([row["outcome"] == KEPT for row in images])[known]
    values = values[known]
    least, most = score.thresholds(rules)
    bounds = [value for value in (least, most) if value is not None]
    low, high = min(float(values.min()), *bounds, math.inf), max(float(values.max()), *bounds, -math.inf)
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    of_kept, of_refused = np.histogram(values[kept], edges)[0], np.histogram(values[~kept], edges)[0]
    tallest = max(1, int((of_kept + of_refused).max()))
    lines = [
        ((value - low) / (high - low), value, word)
        for value, word in ((least, "at least"), (most, "at most"))
        if value is not None
    ]
    return Histogram(
        score=score,
        low=low,
        high=high,
        median=float(np.median(values)),
        num_values=len(values),
        num_none=sum(row.get(score.key) == score.none for row in images),
        bars=tuple(
            (i / BINS, int(a) / tallest, int(b) / tallest)
            for i, (a, b) in enumerate(zip(of_kept, of_refused, strict=True))
        ),
        counts=tuple((int(a), int(b)) for a, b in zip(of_kept, of_refused, strict=True)),
        width=1 / BINS,
        thresholds=tuple(lines),
    )


def value_of(score: Score, row: Row) -> float:
    """NaN where an image has no such score: text scores need a prompt, class scores a class, refilled shares a region
    that was freed."""
    value = row.get(score.key)
    if value is None and score.key == "nearest_image_similarity" and row["outcome"] == "near_duplicate_image":
        return float(row["score"])  # refused images have no row of the filter; the refusal itself holds the cosine
    if value is None or value == score.none:
        return math.nan
    if (score.key == "text_image_score" and not row["prompt"]) or (
        score.key == "class_fraction" and row["class_id"] == IGNORE
    ):
        return math.nan
    if score.key == "filled_fraction" and row.get("num_kept_regions") == row.get("num_regions"):
        return math.nan
    return float(value)
