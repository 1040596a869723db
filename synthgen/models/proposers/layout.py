"""Proposer `layout`:

the label map that an image was rendered from is its coarse mask (FLEX-Seg and DGInStyle train with it as it is).

The image need not follow the map everywhere: APF frees the regions whose features say otherwise, SABR moves the
boundaries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel

from synthgen.backends import Cost
from synthgen.errors import InputError
from synthgen.models import ProposalRequest, Prototypes, SupportShot


class Options(BaseModel, extra="forbid"):
    """There is nothing to set."""


def build(options: Options, execution: Any) -> LayoutProposer:
    """No weights."""
    return LayoutProposer()


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost:
    """The map is there."""
    return Cost()


def needs_support(options: Options) -> bool:
    """Nothing is learnt from labelled images."""
    return False


def needs_layout(options: Options) -> bool:
    """An image that was not rendered from a label map, as a support image, cannot be labelled."""
    return True


class LayoutProposer:
    """Gives back the map, at the image's size."""

    def prepare(self, shots: Sequence[SupportShot], prototypes: Prototypes, background: int | None) -> None:
        """Nothing to learn."""

    def propose(self, requests: Sequence[ProposalRequest]) -> list[np.ndarray]:
        """(H, W) uint8 of each request. Raises InputError for an image that was not rendered from a map."""
        return [_map_of(request) for request in requests]


def _map_of(request: ProposalRequest) -> np.ndarray:
    if request.layout is None:
        raise InputError(
            "proposer `layout`: an image was not rendered from a label map; use a prompt source that gives layouts"
        )
    height, width = request.image.shape[:2]
    # the nearest pixel centre, as the renderer resized the map
    rows = ((np.arange(height) + 0.5) * request.layout.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * request.layout.shape[1] / width).astype(int)
    return request.layout[rows][:, columns]
