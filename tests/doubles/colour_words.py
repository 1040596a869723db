"""Proposer: a pixel takes the class whose word has the pixel's colour; three quarters sure. What is nearly grey is the
background, half sure, but the left quarter of each image is left open."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel

from doubles.world import COLOURS
from synthgen.models import Proposal, ProposalRequest, Prototypes, SupportShot, TellsScores

COLOUR_OF = {"coin": COLOURS["disc"], "square": COLOURS["square"], "bar": COLOURS["bar"], "background": (120, 120, 120)}


class Options(BaseModel, extra="forbid"):
    counts: bool = True  # whether its score is the labels' confidence


def build(options: Options, execution: object) -> ColourWords:
    return ColourWords()


def score_is_confidence(options: Options) -> bool:
    return options.counts


class ColourWords(TellsScores):
    def prepare(self, shots: Sequence[SupportShot], prototypes: Prototypes, background: int | None) -> None: ...

    def propose_scored(self, requests: Sequence[ProposalRequest]) -> list[Proposal]:
        return [self._propose(request) for request in requests]

    def _propose(self, request: ProposalRequest) -> Proposal:
        named = zip(request.candidates, request.class_names, strict=True)
        colours = {class_id: np.array(COLOUR_OF[word], float) for class_id, word in named}
        away = np.stack([np.linalg.norm(request.image - colour, axis=-1) for colour in colours.values()])
        mask = np.array(list(colours), np.uint8)[away.argmin(axis=0)]
        score = np.where(mask == 0, 0.5, 0.75).astype(np.float32)
        open_part = slice(0, request.image.shape[1] // 4)
        mask[:, open_part], score[:, open_part] = 255, 0
        return Proposal(mask, score)
