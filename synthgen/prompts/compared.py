"""What a class's budget of prompts is worth, spent in one way or another."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from synthgen.prompts.dedup import greedy_dedup, normalised


@dataclasses.dataclass(frozen=True, slots=True)
class Compared:
    """One way to spend a class's budget of prompts."""

    prompts: int
    distinct: int  # of them, as lambda_div has it
    nearest: float  # mean cosine of a prompt to the most similar other one; -1 for a single one
    values: int  # attribute values that some prompt has


def compared(
    vectors: np.ndarray, accepted: np.ndarray, attributes: Sequence[Sequence[str]], lambda_div: float
) -> dict[str, Compared]:
    """The accepted of N candidates, as many times the class's name alone, and the first so many without any comparison.

    `vectors` (N, P) float, `accepted` (N,) bool, `attributes` those of each candidate; {} if none is accepted.
    """
    taken = np.flatnonzero(accepted)
    if not len(taken):
        return {}
    found = {"class name alone": Compared(len(taken), 1, 1.0 if len(taken) > 1 else -1.0, 0)}
    for name, rows in (("candidates uncompared", np.arange(len(taken))), ("this bank", taken)):
        values = {attribute for row in rows.tolist() for attribute in attributes[row]}
        distinct = int(greedy_dedup(vectors[rows], lambda_div).accepted.sum())
        found[name] = Compared(len(rows), distinct, nearest_similarity(vectors[rows]), len(values))
    return found


def nearest_similarity(vectors: np.ndarray) -> float:
    """Mean cosine of each row (N, P) to the most similar other one, rounded to 6 decimals; -1 for a single row."""
    if len(vectors) < 2:
        return -1.0
    unit = normalised(vectors)
    best = []
    for start in range(0, len(unit), 256):
        cosines = unit[start : start + 256] @ unit.T
        cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -2
        best.append(cosines.max(axis=1))
    return round(float(np.concatenate(best).mean()), 6)
