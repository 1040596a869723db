"""The attempts at one image: compose, render, gate, again if a gate refuses, a bounded number of times (CG-Aug; its
code tries for ever with the same sentence).

Each attempt has a key of its own: its noise follows from it, and what is refused is accounted for by it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segkit.labels import OUT_OF_DISTRIBUTION
from synthgen.backends import load
from synthgen.errors import RecipeError
from synthgen.images import read_mask
from synthgen.recipe import Recipe
from synthgen.records import PromptRecord, Rejected, digest_of, ids_digest, key_of, seed_of
from synthgen.render.composition import Composer, Composition, Refusal
from synthgen.render.gates.known_class import KnownClass, KnowsClasses
from synthgen.render.gates.sam_agreement import SamAgreement
from synthgen.render.verdict import Gate, Verdict


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """Try `number` (from 0) at image `image` of a prompt."""

    row: PromptRecord
    image: int
    number: int = 0

    @property
    def next(self) -> Attempt:
        return dataclasses.replace(self, number=self.number + 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Composed:
    """What an attempt renders. The key stands for everything that the image follows from."""

    attempt: Attempt
    key: str
    composition: Composition

    def rejected(self, reason: str, detail: str, score: float = 0.0) -> Rejected:
        """Why this attempt gave no image that is kept."""
        return Rejected(self.key, self.attempt.row.key, "render", reason, detail, score)


@dataclasses.dataclass(frozen=True, slots=True)
class NotComposed:
    """An attempt that came to nothing, and whether another may follow."""

    rejected: Rejected
    is_final: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """What the gates say of an image."""

    verdict: Verdict | None  # of the last gate that was asked; None = there is no gate
    sam_agreement: float = -1.0
    known_probability: float = -1.0


class Attempts:
    """Composes and judges."""

    def __init__(self, recipe: Recipe, run: Path, composer: Composer, gates: dict[str, Gate]) -> None:
        self._recipe, self._run = recipe, run
        self._composer, self._gates = composer, gates
        self._size_px = (recipe.render.height_px, recipe.render.width_px)

    def compose(self, attempt: Attempt) -> Composed | NotComposed:
        """Object, place and sentence follow from the prompt's key, the run seed and the numbers alone; with `renew:
        noise` they are those of the first try.
        """
        row, seed = attempt.row, self._recipe.seed
        # the row's key stands for its map too; the empty word keeps the keys of samples that have none as they were
        plain = key_of("s", row.key, "", seed, attempt.image)
        draw = attempt.number if self._recipe.render.renew == "object" else 0
        layout = read_mask(self._run / row.layout) if row.layout else None
        rng = np.random.default_rng(seed_of(key_of("c", plain, draw)))
        found = self._composer.compose(row.subject.prompt, layout, self._size_px, rng)
        tries = (attempt.number,) if attempt.number else ()
        if isinstance(found, Refusal):
            key = key_of("a", plain, *tries)
            refused = Rejected(key, row.key, "render", found.reason, found.detail, 0.0)
            return NotComposed(refused, found.is_final or self._recipe.render.renew == "noise")
        if found.pasted is None and found.prompt == row.subject.prompt and found.layout is layout:
            return Composed(attempt, plain, found)
        content = f"{found.prompt}\x1f{'' if found.layout is None else ids_digest(found.layout)}"
        if found.pasted is not None:
            content += f"\x1f{found.pasted.class_name}\x1f{ids_digest(found.pasted.mask.astype(np.uint8))}"
        key = key_of("s", row.key, digest_of(content.encode()), seed, attempt.image, *tries)
        return Composed(attempt, key, found)

    def judge(self, images: Sequence[np.ndarray], composed: Sequence[Composed]) -> list[Judgement]:
        """Each image asks the gates in turn until one refuses; what holds no pasted object passes."""
        found = [Judgement(None) for _ in images]
        asked = [number for number, one in enumerate(composed) if one.composition.pasted is not None]
        masks = {number: one.composition.pasted.mask for number, one in enumerate(composed) if one.composition.pasted}
        for name, gate in self._gates.items():
            if not asked:
                break
            verdicts = gate.judge([images[number] for number in asked], [masks[number] for number in asked])
            for number, verdict in zip(asked, verdicts, strict=True):
                masks[number] = verdict.mask
                scores: dict[str, Any] = {SCORE_OF[name]: verdict.score}
                found[number] = dataclasses.replace(found[number], verdict=verdict, **scores)
            asked = [number for number, verdict in zip(asked, verdicts, strict=True) if not verdict.reason]
        return found


SCORE_OF = {"sam_agreement": "sam_agreement", "known_class": "known_probability"}


def gates_of(recipe: Recipe) -> dict[str, Gate]:
    """The gates that the recipe asks, in their order. Loads their models."""
    settings, gates = recipe.render.gates, dict[str, Gate]()
    if settings.sam_agreement.enabled:
        decoder = load("mask_decoder", recipe.refine.mask_decoder.model_dump(), recipe.execution)
        gates["sam_agreement"] = SamAgreement(decoder, settings.sam_agreement.min_iou, settings.sam_agreement.replaces)
    if settings.known_class.segmenter is not None:
        segmenter = load("proposer", settings.known_class.segmenter.model_dump(), recipe.execution)
        if not isinstance(segmenter, KnowsClasses):
            raise RecipeError(
                f"render.gates.known_class.segmenter {settings.known_class.segmenter.name!r}: is no proposer that says "
                "how sure it is of each class; take `segmenter`"
            )
        gates["known_class"] = KnownClass(segmenter, settings.known_class.max_probability)
    return gates


def label_with(layout: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A map (H, W) uint8 with an unknown object (H, W) bool in it, as 254."""
    label = layout.copy()
    label[mask] = OUT_OF_DISTRIBUTION
    return label
