"""Base, novel, mean and harmonic mIoU of generalised few-shot segmentation, in the three conventions of the field."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from segtrain.errors import ConfigError

MEANING = {
    "diam": "background excluded, mean = (base + novel) / 2",
    "bam": "background excluded, mean over all base and novel classes",
    "pop": "background counts as a base class, mean over all classes",
}


@dataclasses.dataclass(frozen=True, slots=True)
class FewShotScores:
    """All in 0..1; `harmonic` = 2 * base * novel / (base + novel)."""

    convention: str
    base: float
    novel: float
    mean: float
    harmonic: float


def few_shot_scores(iou: Mapping[str, float], novel: Sequence[str], background: str | None, convention: str = "diam") -> FewShotScores:
    """From the IoU of each class that occurs. Raises ConfigError if `novel` names a class that does not, or leaves no base class.

    Conventions as in the evaluation code of DIaM (Hajimiri et al. 2023), BAM (Lang et al. 2022) and POP (Liu et al. 2023).
    """
    if convention not in MEANING:
        raise ConfigError(f"convention {convention!r}: there are: {', '.join(MEANING)}")
    unknown = [name for name in novel if name not in iou or name == background]
    counted = {name: value for name, value in iou.items() if convention == "pop" or name != background}
    base = [value for name, value in counted.items() if name not in novel]
    if unknown or not novel or not base:
        which = f"{unknown[0]!r} is not a class that occurs" if unknown else "no base class is left" if novel else "no class is given"
        raise ConfigError(f"novel: {which}; classes: {', '.join(name for name in iou if name != background)}")
    base_miou, novel_miou = float(np.mean(base)), float(np.mean([iou[name] for name in novel]))
    mean = (base_miou + novel_miou) / 2 if convention == "diam" else float(np.mean(list(counted.values())))
    total = base_miou + novel_miou
    return FewShotScores(convention, base_miou, novel_miou, mean, 2 * base_miou * novel_miou / total if total else 0.0)
