"""Scores of each domain: mIoU, and the share of wrong pixels in the boundary band and outside it.

Pixels of a domain are pooled over its images. The averages are FLEX-Seg's, where all of their domains are there: Avg2
of ACDC and Dark Zurich (adverse), Avg3 of Cityscapes, BDD100K and Mapillary (normal), Avg5 of all five.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np

from segtrain.metrics.iou import ConfusionMatrix

AVERAGES = {
    "avg2": ("acdc", "darkzurich"),
    "avg3": ("cityscapes", "bdd100k", "mapillary"),
    "avg5": ("acdc", "darkzurich", "cityscapes", "bdd100k", "mapillary"),
}
_SAME = {"dz": "darkzurich", "cs": "cityscapes", "bdd": "bdd100k", "mv": "mapillary", "mapillaryvistas": "mapillary"}


@dataclasses.dataclass(frozen=True, slots=True)
class DomainScore:
    """In 0..1, None where there is nothing to score. Errors are shares of labelled pixels."""

    name: str
    miou: float | None
    boundary_error: float | None
    interior_error: float | None
    num_images: int


class DomainScores:
    """Gathers the images of all domains; memory does not grow with their number."""

    def __init__(self, ids: Sequence[int], background: int | None = None) -> None:
        """`ids` of the classes, and which of them is the background."""
        self._ids, self._background = tuple(ids), background
        self._matrices: dict[str, ConfusionMatrix] = {}
        self._pixels: dict[str, np.ndarray] = {}  # [in the band, outside] x [wrong, all]
        self._images: dict[str, int] = {}

    def add(self, domain: str, prediction: np.ndarray, truth: np.ndarray, in_band: np.ndarray) -> None:
        """Two (H, W) uint8 masks of ids and the bool band of the truth."""
        self._matrices.setdefault(domain, ConfusionMatrix(self._ids, self._background)).add(prediction, truth)
        labelled = np.isin(truth, self._ids)
        counts = [
            [int((place & labelled & (prediction != truth)).sum()), int((place & labelled).sum())]
            for place in (in_band, ~in_band)
        ]
        self._pixels[domain] = self._pixels.get(domain, 0) + np.array(counts, dtype=np.int64)
        self._images[domain] = self._images.get(domain, 0) + 1

    def scores(self) -> tuple[DomainScore, ...]:
        """By name."""
        made = []
        for name in sorted(self._matrices):
            boundary, interior = (int(wrong) / int(number) if number else None for wrong, number in self._pixels[name])
            made.append(DomainScore(name, self._matrices[name].mean_iou(), boundary, interior, self._images[name]))
        return tuple(made)


def averages(miou: Mapping[str, float | None]) -> dict[str, float]:
    """`mean` over the domains, and Avg2, Avg3, Avg5 where their domains are among them, by any usual spelling."""
    scored = {name: value for name, value in miou.items() if value is not None}
    made = {"mean": float(np.mean(list(scored.values())))} if scored else {}
    # only to look names up in: of two names in another script nothing is left that would tell them apart
    known = {_plain(name): value for name, value in scored.items()}
    for name, domains in AVERAGES.items():
        if all(domain in known for domain in domains):
            made[name] = float(np.mean([known[domain] for domain in domains]))
    return made


def _plain(name: str) -> str:
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    return _SAME.get(letters, letters)
