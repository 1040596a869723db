"""Agreement of proposers, beside the same rule pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.backends import Cost, cost, load, statement, weights
from synthgen.errors import RecipeError
from synthgen.models import Proposal, ProposalRequest, Prototypes, SupportShot, proposals
from synthgen.models.proposers.agreement import AgreementProposer, agreed
from synthgen.settings import Execution

CPU = Execution(device="cpu")


def by_hand(of_image: Sequence[Proposal], keeps_one_sided: bool) -> tuple[np.ndarray, np.ndarray]:
    mask, score = np.full(of_image[0].mask.shape, 255, np.uint8), np.zeros(of_image[0].mask.shape)
    for at in np.ndindex(mask.shape):
        said = [int(one.mask[at]) for one in of_image if one.mask[at] != 255]
        if len(set(said)) == 1 and (keeps_one_sided or len(said) == len(of_image)):
            mask[at] = said[0]
            score[at] = sum(float(one.score[at]) for one in of_image if one.mask[at] != 255) / len(of_image)
    return mask, score


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.booleans())
def test_contradicted_pixels_are_unlabelled_and_the_score_is_the_mean(seed: int, count: int, keeps: bool) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.choice(np.array([0, 3, 254, 255], np.uint8), (count, 5, 6))
    of_image = [Proposal(mask, np.where(mask == 255, 0, rng.random(mask.shape)).astype(np.float32)) for mask in masks]
    got = agreed(of_image, keeps)
    mask, score = by_hand(of_image, keeps)
    assert got.mask.dtype == np.uint8 and got.score.dtype == np.float32
    np.testing.assert_array_equal(got.mask, mask)
    np.testing.assert_allclose(got.score, score, atol=1e-6)
    again = agreed(of_image[::-1], keeps)
    np.testing.assert_array_equal(again.mask, got.mask, "the order of the proposers says nothing")
    np.testing.assert_allclose(again.score, got.score, atol=1e-6)


class Says:
    """One label everywhere, without scores; keeps what it was prepared with."""

    def __init__(self, label: int) -> None:
        self.label = label
        self.prepared: list[Any] = []

    def prepare(self, shots: Sequence[SupportShot], prototypes: Prototypes, background: int | None) -> None:
        self.prepared.append((shots, prototypes, background))

    def propose(self, requests: Sequence[ProposalRequest]) -> list[np.ndarray]:
        return [np.full(request.image.shape[:2], self.label, np.uint8) for request in requests]


def request_of(size: tuple[int, int]) -> ProposalRequest:
    return ProposalRequest(np.zeros((*size, 3), np.uint8), np.zeros((1, 1, 1), np.float32), (3, 0), "")


def test_every_proposer_is_prepared_and_one_without_scores_is_taken_at_its_word() -> None:
    parts = [Says(3), Says(3), Says(255)]
    requests = [request_of((2, 3)), request_of((4, 1))]
    built = AgreementProposer(parts, "keep")
    prototypes = Prototypes((3,), np.ones((1, 1), np.float32))
    built.prepare([], prototypes, 0)
    assert [part.prepared for part in parts] == [[([], prototypes, 0)]] * 3
    found = proposals(built, requests)
    assert [one.mask.tolist() for one in found] == [[[3] * 3] * 2, [[3]] * 4]
    np.testing.assert_allclose(found[0].score, 2 / 3, atol=1e-6)
    np.testing.assert_array_equal(built.propose(requests)[1], found[1].mask)
    assert (AgreementProposer(parts, "unlabelled").propose(requests)[0] == 255).all()
    assert (AgreementProposer([Says(3), Says(0)], "keep").propose(requests)[0] == 255).all()


def test_it_says_of_itself_what_its_proposers_say() -> None:
    def of(*parts: dict[str, Any]) -> dict[str, Any]:
        return {"name": "agreement", "proposers": list(parts)}

    both = of({"name": "prototype"}, {"name": "sam3", "revision": "abc"})
    alone = cost("proposer", {"name": "sam3"}, (1024, 1024), CPU)
    assert alone is not None and cost("proposer", both, (1024, 1024), CPU) == alone, "products of features cost nothing"
    assert weights("proposer", both) == [("facebook/sam3", "abc")]
    assert statement("proposer", both, "licences", {})["facebook/sam3"].name == "SAM License"
    assert statement("proposer", both, "needs_support", True)
    maps = of({"name": "layout"}, {"name": "unlabelled"})
    assert statement("proposer", maps, "needs_layout", False) and not statement("proposer", maps, "needs_support", True)
    assert cost("proposer", maps, (64, 64), CPU) == Cost()


def test_what_cannot_agree_is_one_line() -> None:
    for parts, told in (
        ([{"name": "prototype"}], "at least 2"),
        ([{"name": "prototype"}, {"name": "prototpye"}], "prototpye"),
        ([{"name": "prototype"}, {"name": "prototype", "min_cosin": 1}], "min_cosin"),
        ([{"name": "prototype"}, {"name": "support_segmenter"}], "'support_segmenter' is trained once a run"),
    ):
        with pytest.raises(RecipeError, match=told) as caught:
            load("proposer", {"name": "agreement", "proposers": parts}, CPU)
        assert "\n" not in str(caught.value)
