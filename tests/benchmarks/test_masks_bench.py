"""What the benchmark of masks remembers between support sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import masks
from synthgen.backends import load
from synthgen.models import Proposal, ProposalRequest
from synthgen.recipe import read_recipe
from synthgen.refine import stage


def test_the_same_question_is_asked_once_and_answered_alike(tmp_path: Path, monkeypatch: Any) -> None:
    recipe = read_recipe("syn4seg-mini", [*masks.WITHOUT_PROBABILITIES, "support.shots=1", "labels.classes=[cat, bus]",
        "refine.proposer={name: dense_clip, space: objects, model: mini/clip}"])  # fmt: skip
    asked: list[bytes] = []
    kind = type(load("proposer", recipe.refine.proposer.model_dump(), recipe.execution))
    plain = kind.propose_scored

    def counted(self: Any, requests: list[ProposalRequest]) -> list[Proposal]:
        asked.extend(request.image.tobytes() for request in requests)
        return plain(self, requests)

    monkeypatch.setattr(kind, "propose_scored", counted)
    scenes = masks.drawn_scenes(1)[:2]
    answers: dict[str, dict[Any, Any]] = {}
    found = []
    for number in range(2):
        run = tmp_path / str(number)
        run.mkdir()
        built = masks.remembering(stage.build(recipe, run), answers)
        found.append(masks.refine(built, run, [s.image for s in scenes], [2, 2]))
    assert len(asked) == 2 and len(answers["coarse"]) == 2
    for first, again in zip(*found, strict=True):
        assert all(np.array_equal(first[step], again[step]) for step in masks.STEPS)
