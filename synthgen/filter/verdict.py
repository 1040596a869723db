"""What a filter rule says of one row."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """`detail` is the comparison that fails if the score is not accepted, for example "0.12 < 0.2"."""

    score: float
    accepted: bool
    detail: str


def at_least(score: float, threshold: float) -> Verdict:
    """Accepts a score that reaches the threshold."""
    return Verdict(score, score >= threshold, f"{score:.4g} < {threshold:.4g}")


def at_most(score: float, threshold: float) -> Verdict:
    """Accepts a score that does not pass the threshold."""
    return Verdict(score, score <= threshold, f"{score:.4g} > {threshold:.4g}")
