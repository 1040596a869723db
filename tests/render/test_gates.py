"""CG-Aug's gates with doubles that answer what the test says, and the accounting of attempts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from synthgen.errors import RecipeError
from synthgen.models import MaskPrompts
from synthgen.recipe import read_recipe
from synthgen.render.attempts import gates_of
from synthgen.render.gates.known_class import KnownClass
from synthgen.render.gates.sam_agreement import SamAgreement, iou, tight_box

IMAGE = np.zeros((20, 30, 3), np.uint8)


def box_mask(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((20, 30), bool)
    mask[top:bottom, left:right] = True
    return mask


class Decoder:
    """Gives back set masks, and notes the boxes."""

    id = "decoder"

    def __init__(self, masks: list[np.ndarray]) -> None:
        self.masks, self.boxes = masks, list[list[float]]()

    def decode(
        self, images: Sequence[np.ndarray], prompts: Sequence[MaskPrompts]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        self.boxes += [prompt.boxes[0].tolist() for prompt in prompts if prompt.boxes is not None]
        return [(mask[None], np.ones(1, np.float32)) for mask in self.masks]


def test_sam_is_asked_by_the_tight_box_and_its_mask_replaces_the_pasted_one_above_the_limit() -> None:
    mask = box_mask(4, 5, 14, 15)  # 100 px
    at_limit, above, elsewhere = box_mask(4, 5, 14, 12), box_mask(4, 5, 14, 13), box_mask(0, 20, 3, 25)
    decoder = Decoder([at_limit, above, elsewhere, np.zeros((20, 30), bool)])
    verdicts = SamAgreement(decoder, 0.7).judge([IMAGE] * 4, [mask] * 4)
    assert decoder.boxes == [[5, 4, 15, 14]] * 4
    assert [verdict.score for verdict in verdicts] == [0.7, 0.8, 0.0, 0.0]
    assert [verdict.reason for verdict in verdicts] == ["sam_disagrees", "", "sam_disagrees", "sam_disagrees"]
    np.testing.assert_array_equal(verdicts[1].mask, above)
    (kept,) = SamAgreement(Decoder([above]), 0.7, replaces=False).judge([IMAGE], [mask])
    assert not kept.reason
    np.testing.assert_array_equal(kept.mask, mask)


def test_iou_and_box_against_counting() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        one, other = rng.random((9, 11)) < 0.3, rng.random((9, 11)) < 0.3
        both = sum(a and b for a, b in zip(one.ravel(), other.ravel(), strict=True))
        either = sum(a or b for a, b in zip(one.ravel(), other.ravel(), strict=True))
        assert iou(one, other) == pytest.approx(both / either)
        places = [(row, column) for row in range(9) for column in range(11) if one[row, column]]
        rows, columns = zip(*places, strict=True)
        assert tight_box(one).tolist() == [min(columns), min(rows), max(columns) + 1, max(rows) + 1]


def test_a_gate_asks_a_proposer_that_knows_how_sure_it_is_or_says_so_before_anything_is_rendered() -> None:
    gates = ["render.gates.sam_agreement.enabled=false", "render.gates.known_class={segmenter: {name: layout}}"]
    with pytest.raises(RecipeError, match=r"known_class\.segmenter 'layout': is no proposer that says how sure"):
        gates_of(read_recipe("cgaug-mini", gates))


class Segmenter:
    def __init__(self, probabilities: np.ndarray) -> None:
        self._probabilities = probabilities

    def known_probabilities(self, image: np.ndarray) -> np.ndarray:
        return self._probabilities


@pytest.mark.parametrize(("on_object", "reason"), [(0.5, ""), (0.91, ""), (0.92, "known_object")])
def test_what_a_segmenter_is_sure_of_is_no_unknown(on_object: float, reason: str) -> None:
    mask = box_mask(2, 2, 6, 6)
    probabilities = np.where(mask, on_object, 1.0)
    (verdict,) = KnownClass(Segmenter(probabilities), 0.91).judge([IMAGE], [mask])
    assert (verdict.reason, verdict.score) == (reason, pytest.approx(on_object))
