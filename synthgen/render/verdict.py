"""What a gate says of one image."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """Accepted if there is no reason against it."""

    score: float
    mask: np.ndarray  # (H, W) bool: the object as the next gate and the label take it
    reason: str = ""  # a snake_case word
    detail: str = ""


class Gate(Protocol):
    """A result depends on its own image only."""

    def judge(self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> list[Verdict]: ...
