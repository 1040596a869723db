"""Coarse masks from support prototypes alone: each pixel takes the candidate whose prototype it is most like.

The nearest-prototype classifier of few-shot segmentation (PANet, Wang et al., ICCV 2019), standing in for Syn4Seg's
GFSS network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from synthgen.backends import Cost
from synthgen.images import IGNORE
from synthgen.models import Proposal, ProposalRequest, Prototypes, SupportShot, TellsScores
from synthgen.models.cosine_maps import best_per_class, confidence_of_margin, cosine_maps, of_classes, two_best


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    min_cosine: float = Field(
        -1.0, ge=-1, le=1, description="a pixel whose best cosine is below this stays 255; -1 = off"
    )


def build(options: Options, execution: Any) -> PrototypeProposer:
    return PrototypeProposer(options.min_cosine)


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost:
    """Products of features that are there."""
    return Cost()


class PrototypeProposer(TellsScores):
    """Argmax of upsampled cosine maps; of a class with several prototypes the best counts.

    Candidates without a prototype are never proposed.
    """

    def __init__(self, min_cosine: float) -> None:
        self._min_cosine = min_cosine
        self._prototypes = Prototypes((), np.zeros((0, 0), np.float32))

    def prepare(self, shots: Sequence[SupportShot], prototypes: Prototypes, background: int | None) -> None:
        self._prototypes = prototypes

    def propose_scored(self, requests: Sequence[ProposalRequest]) -> list[Proposal]:
        """The score is that of the confidence map (`synthgen.refine.ape`): sigmoid(m / 0.1), m = the lead of the best
        cosine over that to any other class; 1 where there is no other [ours]."""
        return [
            nearest_class(request, request.features, self._prototypes, self._min_cosine, _of_margin)
            for request in requests
        ]


def nearest_class(
    request: ProposalRequest,
    features: np.ndarray,
    prototypes: Prototypes,
    min_cosine: float,
    score: Callable[[np.ndarray], np.ndarray],
) -> Proposal:
    """At each pixel the candidate of the highest upsampled cosine;

    255 where it is below `min_cosine`, or if there is none.

    features (h, w, D) of the request's image, in the space of `prototypes`; on a tie the candidate that comes first.
    `score` takes the cosines (K, H, W) to the candidates, K >= 1, and gives (H, W) in [0, 1].
    """
    size = (request.image.shape[0], request.image.shape[1])
    own = of_classes(prototypes, request.candidates)
    if not own.ids:
        return Proposal(np.full(size, IGNORE, np.uint8), np.zeros(size, np.float32))
    class_ids, cosines = best_per_class(cosine_maps(features, own.vectors, size), own.ids)
    best, top, _ = two_best(cosines)
    mask = class_ids.astype(np.uint8)[best]
    mask[top < min_cosine] = IGNORE
    return Proposal(mask, np.where(mask == IGNORE, 0, score(cosines)).astype(np.float32))


def _of_margin(cosines: np.ndarray) -> np.ndarray:
    """(H, W) of (K, H, W)."""
    _, top, second = two_best(cosines)
    return confidence_of_margin(top - second)
