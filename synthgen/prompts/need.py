"""What a segmenter is weak at, by class and by domain: where the next images are wanted (`synthgen improve`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from segkit.spelling import same_name


@dataclasses.dataclass(frozen=True, slots=True)
class Need:
    """Weights above 0, of mean 1 over the classes and over the domains that are known."""

    classes: Mapping[str, float]
    domains: Mapping[str, float]

    def of_class(self, name: str) -> float | None:
        """That of the class of that name, in any spelling: the segmenter has its names from what it learnt from first.
        None if there is none."""
        return next((weight for known, weight in self.classes.items() if same_name(known) == same_name(name)), None)

    def of_domain(self, words: str) -> float | None:
        """That of the domain whose name is among these words ("at night": night); None if none or several are."""
        spoken = [same_name(word) for word in words.replace("-", " ").split()]
        found = [
            weight
            for name, weight in self.domains.items()
            if same_name(name) in spoken or same_name(name) == same_name(words)
        ]
        return found[0] if len(found) == 1 else None


def need_of(
    classes: Mapping[str, float | None], domains: Mapping[str, float | None], power: float, floor: float
) -> Need:
    """Weights of IoU by class and mIoU by domain, in 0..1: (1 - IoU) ** power over its mean, at least `floor`, again of
    mean 1. What was not seen (None) has the mean. `power` 0 = all alike.
    """
    return Need(_weights(classes, power, floor), _weights(domains, power, floor))


def quotas(weights: Mapping[str, float], count: int) -> dict[str, int]:
    """`count` in whole numbers by largest remainder (Hamilton); of equal remainders the first name gets it."""
    total = sum(weights.values())
    exact = {name: count * weight / total for name, weight in weights.items()}
    given = {name: int(value) for name, value in exact.items()}
    left = count - sum(given.values())
    for name in sorted(exact, key=lambda name: given[name] - exact[name])[:left]:
        given[name] += 1
    return given


def _weights(scores: Mapping[str, float | None], power: float, floor: float) -> dict[str, float]:
    known = [(1 - score) ** power for score in scores.values() if score is not None]
    mean = float(np.mean(known)) if known else 0.0
    if mean <= 0:
        return dict.fromkeys(scores, 1.0)
    raw = [1.0 if score is None else max(floor, (1 - score) ** power / mean) for score in scores.values()]
    return dict(zip(scores, _of_mean_one(raw), strict=True))


def _of_mean_one(values: Sequence[float]) -> list[float]:
    return [float(value / np.mean(values)) for value in values]
