"""Proposer `unlabelled`: no mask at all, every pixel is 255.

For pictures that are learnt from without labels (CLOUDS; segtrain's --unlabelled): the layout that one may have been
rendered from is thrown away, and the shards keep their format.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel

from segkit.labels import IGNORE
from synthgen.backends import Cost
from synthgen.models import ProposalRequest, Prototypes, SupportShot


class Options(BaseModel, extra="forbid"):
    """There is nothing to set."""


def build(options: Options, execution: Any) -> NoLabels:
    """No weights."""
    return NoLabels()


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost:
    """Nothing is computed."""
    return Cost()


def needs_support(options: Options) -> bool:
    """Nothing is learnt from labelled images."""
    return False


class NoLabels:
    """Knows no class of no pixel."""

    def prepare(self, shots: Sequence[SupportShot], prototypes: Prototypes, background: int | None) -> None:
        """Nothing to learn."""

    def propose(self, requests: Sequence[ProposalRequest]) -> list[np.ndarray]:
        """(H, W) uint8 of 255 for each request."""
        return [np.full(request.image.shape[:2], IGNORE, np.uint8) for request in requests]
