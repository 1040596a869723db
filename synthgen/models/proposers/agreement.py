"""Coarse masks that several proposers agree on; where they contradict each other the pixel stays 255 [ours].

    proposer:
      name: agreement
      proposers: [{name: prototype}, {name: sam3, model: facebook/sam3}]

Words know what a class is called, support prototypes what it looks like here: where they err in different places, what
both say is likelier right than what one says. The score, and so the label's confidence, is the mean over all proposers
of their score for the label, where one that does not know (255) gives 0.

APR and SABR label free pixels: with `refine.apr.enabled: false` what is contradicted stays unlabelled (SABR fills what
lies inside a box of a region and SAM's mask).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from segkit.labels import IGNORE
from synthgen.backends import Cost, Licence, load, statement
from synthgen.models import Proposal, ProposalRequest, Proposer, Prototypes, SupportShot, TellsScores, proposals
from synthgen.models.composed import (
    any_part,
    check_parts,
    cost_of_parts,
    licences_of_parts,
    packages_of_parts,
    weights_of_parts,
)
from synthgen.settings import Backend

ROLE = "proposer"


class Options(BaseModel):
    """Who has to agree."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    proposers: tuple[Backend, ...] = Field(min_length=2, description="each `{name, **options}`")
    one_sided: Literal["unlabelled", "keep"] = Field(
        "unlabelled",
        description="what a pixel is that some proposers label alike and the others leave 255: unlabelled, or their "
        "label, with the score of the mean [ours]",
    )

    @field_validator("proposers")
    @classmethod
    def _known_parts(cls, parts: tuple[Backend, ...]) -> tuple[Backend, ...]:
        check_parts(ROLE, [part.model_dump() for part in parts])
        for part in parts:
            if statement(ROLE, part.model_dump(), "trains", False):
                raise ValueError(f"proposer {part.name!r} is trained once a run, which a part of another is not")
        return parts


def build(options: Options, execution: Any) -> AgreementProposer:
    """Load all of them."""
    return AgreementProposer([load(ROLE, config, execution) for config in _parts(options)], options.one_sided)


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost | None:
    """All proposers, one after the other; unknown if that of one is."""
    return cost_of_parts(ROLE, _parts(options), size, execution)


def weights(options: Options) -> list[tuple[str, str]]:
    """Those of all proposers."""
    return weights_of_parts(ROLE, _parts(options))


def packages(options: Options) -> list[str]:
    """Those of all proposers."""
    return packages_of_parts(ROLE, _parts(options))


def licences(options: Options) -> dict[str, Licence]:
    """Those of all proposers."""
    return licences_of_parts(ROLE, _parts(options))


def needs_support(options: Options) -> bool:
    """Whether any proposer learns from labelled images."""
    return any_part(ROLE, _parts(options), "needs_support", True)


def needs_layout(options: Options) -> bool:
    """Whether any proposer labels only what was rendered from a label map."""
    return any_part(ROLE, _parts(options), "needs_layout", False)


def score_is_confidence(options: Options) -> bool:
    """That several agree is what the confidence of a label is here."""
    return True


def _parts(options: Options) -> list[dict[str, Any]]:
    return [part.model_dump() for part in options.proposers]


class AgreementProposer(TellsScores):
    """Asks each proposer for each image."""

    def __init__(self, proposers: Sequence[Proposer], one_sided: str) -> None:
        self._proposers = list(proposers)
        self._keeps_one_sided = one_sided == "keep"

    def prepare(self, shots: Sequence[SupportShot], prototypes: Prototypes, background: int | None) -> None:
        for proposer in self._proposers:
            proposer.prepare(shots, prototypes, background)

    def propose_scored(self, requests: Sequence[ProposalRequest]) -> list[Proposal]:
        """See the module for the score."""
        answers = [proposals(proposer, requests) for proposer in self._proposers]
        return [agreed(of_image, self._keeps_one_sided) for of_image in zip(*answers, strict=True)]


def agreed(of_image: Sequence[Proposal], keeps_one_sided: bool) -> Proposal:
    """What at least one proposal (H, W) of an image says and no other contradicts; without `keeps_one_sided`, what all
    of them say. Every other pixel is 255 with score 0."""
    masks = np.stack([proposal.mask for proposal in of_image])
    speaks = masks != IGNORE
    # 255 is the greatest id: the least label is that of a proposer that knows, if there is one
    least, most = masks.min(axis=0), np.where(speaks, masks, 0).max(axis=0)
    kept = (least == most) & (speaks.any(axis=0) if keeps_one_sided else speaks.all(axis=0))
    scores = np.stack([np.where(proposal.mask == IGNORE, 0, proposal.score) for proposal in of_image])
    mask = np.where(kept, least, np.uint8(IGNORE))
    return Proposal(mask, np.where(kept, scores.mean(axis=0), 0).astype(np.float32))
