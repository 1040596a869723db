"""Scores of a proposer on their way through the stage: who asks for them, and where they end as confidence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthgen import pipeline, stages
from synthgen.images import read_mask
from synthgen.models import Proposal
from synthgen.recipe import read_recipe
from synthgen.records import flat
from synthgen.refine.ape import class_cosines, confidence_map

Tiny = Callable[..., Path]
WORDS = {"name": "doubles.colour_words"}
PAIR = {"name": "agreement", "proposers": [WORDS, {"name": "prototype"}]}


def made(tiny: Tiny, run: Path, proposer: dict[str, Any], **changes: Any) -> list[dict[str, np.ndarray]]:
    """The artefacts of each row of `refine`, without SABR."""
    recipe = read_recipe(str(tiny(refine__proposer=proposer, refine__sabr__enabled=False, **changes)))
    settings, _ = pipeline.begin(recipe, run)
    for name in ("prompts", "render", "refine"):
        for _ in pipeline.run_stage(settings, run, name):
            pass
    names = ("coarse", "relabelled", "mask", "confidence")
    return [{name: read_mask(run / flat(row)[name]) for name in names} for row in stages.stages(run)["refine"].rows()]


def test_a_proposers_score_is_the_confidence_of_what_is_still_its_own(tiny: Tiny, tmp_path: Path) -> None:
    scored, other = (made(tiny, tmp_path / str(counts), {**WORDS, "counts": counts}) for counts in (True, False))
    assert scored and len(scored) == len(other)
    relabelled = 0
    for one, same in zip(scored, other, strict=True):
        np.testing.assert_array_equal(one["mask"], same["mask"])
        own = (one["mask"] == one["coarse"]) & (one["mask"] != 255)
        expected = np.where(one["mask"] == 0, round(255 * 0.5), round(255 * 0.75))
        np.testing.assert_array_equal(one["confidence"][own], expected[own])
        np.testing.assert_array_equal(one["confidence"][~own], same["confidence"][~own])
        relabelled += int((~own & (one["mask"] != 255)).sum())
    assert relabelled, "APR has labelled what was open"
    assert any((one["confidence"] != same["confidence"]).any() for one, same in zip(scored, other, strict=True))


def test_what_proposers_contradict_each_other_about_stays_unlabelled_without_apr(tiny: Tiny, tmp_path: Path) -> None:
    off = {"refine__apf__enabled": False, "refine__apr__enabled": False}
    words, prototypes, agreed = (
        made(tiny, tmp_path / name, proposer, **off)
        for name, proposer in (("words", WORDS), ("prototypes", {"name": "prototype"}), ("agreed", PAIR))
    )
    for one, other, both in zip(words, prototypes, agreed, strict=True):
        np.testing.assert_array_equal(both["mask"], np.where(one["mask"] == other["mask"], one["mask"], 255))
        named = both["mask"] != 255
        assert named.any() and (both["confidence"][~named] == 0).all()
        # half of 0.5 or 0.75, and half of what is above a tie between two classes
        assert (both["confidence"][named] >= 127).all() and both["confidence"].max() <= 224
    assert sum(int((both["mask"] == 255).sum()) for both in agreed)


@pytest.mark.parametrize("score", [1e-6, 0.3, 1.0])
def test_a_label_is_never_quite_unsure(score: float) -> None:
    mask = np.array([[0, 3, 255]], np.uint8)
    looks = class_cosines(np.ones((1, 1, 1), np.float32), _nothing(), (1, 3))
    proposal = Proposal(np.array([[0, 7, 255]], np.uint8), np.full((1, 3), score, np.float32))
    plain, scored = confidence_map(mask, looks), confidence_map(mask, looks, proposal)
    assert scored.tolist() == [[max(1, round(255 * score)), plain[0, 1], 0]]
    untold = Proposal(proposal.mask, np.zeros((1, 3), np.float32))
    assert confidence_map(mask, looks, untold).tolist() == plain.tolist(), "a score of 0 is one that was not told"


def _nothing() -> Any:
    from synthgen.models import Prototypes

    return Prototypes((), np.zeros((0, 1), np.float32))
