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
    """All in 0..1. `novel` is the same in all conventions;

    `harmonic` = 2 * base * novel / (base + novel), 0 if both are 0.
    """

    convention: str
    base: float
    novel: float
    mean: float
    harmonic: float


def few_shot_scores(
    iou: Mapping[str, float], novel: Sequence[str], background: str | None
) -> tuple[FewShotScores, ...]:
    """One of each convention, from the IoU of each class that occurs in ground truth or prediction.

    With K_b base classes, K_n novel ones and the background 0, as their evaluation code has it: diam (Hajimiri et al.
    2023): base = sum of base IoU / K_b, mean = (base + novel) / 2. The default of this project. bam (Lang et al. 2022):
    base likewise, mean = sum of base and novel IoU / (K_b + K_n), so a class weighs the same in either set. pop (Liu et
    al. 2023): base = (IoU of 0 + sum of base IoU) / (K_b + 1), mean over all 1 + K_b + K_n classes.

    Raises ConfigError if `novel` names a class that does not occur, or leaves no base class.
    """
    unknown = [name for name in novel if name not in iou or name == background]
    base = {name: value for name, value in iou.items() if name not in novel and name != background}
    if unknown or not novel or not base:
        which = (
            f"{unknown[0]!r} is not a class that occurs"
            if unknown
            else "no base class is left"
            if novel
            else "no class is given"
        )
        raise ConfigError(f"novel: {which}; classes: {', '.join(name for name in iou if name != background)}")
    base_ious, novel_ious = list(base.values()), [iou[name] for name in novel]
    with_background = [*(value for name, value in iou.items() if name == background), *base_ious]
    base_miou, novel_miou = float(np.mean(base_ious)), float(np.mean(novel_ious))
    return (
        _scores("diam", base_miou, novel_miou, (base_miou + novel_miou) / 2),
        _scores("bam", base_miou, novel_miou, float(np.mean(base_ious + novel_ious))),
        _scores("pop", float(np.mean(with_background)), novel_miou, float(np.mean(with_background + novel_ious))),
    )


def few_shot_lines(scores: Sequence[FewShotScores]) -> list[str]:
    """A line a convention, for people, percent."""
    lines = []
    for s in scores:
        parts = (
            f"base {100 * s.base:5.2f}  novel {100 * s.novel:5.2f}  mean {100 * s.mean:5.2f}  harmonic "
            f"{100 * s.harmonic:5.2f}"
        )
        lines.append(f"{s.convention:<4}  {parts}  ({MEANING[s.convention]})")
    return lines


def _scores(convention: str, base: float, novel: float, mean: float) -> FewShotScores:
    total = base + novel
    return FewShotScores(convention, base, novel, mean, 2 * base * novel / total if total else 0.0)
