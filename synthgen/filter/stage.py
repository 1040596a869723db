"""`filter`: scores to decisions. Pure: it reads no image and loads no model, so another threshold costs a second.

One unit sees all rows, since the near-duplicate check compares every image with those kept before it in the order of
their keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from synthgen.filter.by_key import ByKey
from synthgen.filter.decisions import Refusal, first_refusal, refusal_of_image
from synthgen.filter.duplicates import Kept
from synthgen.recipe import Recipe
from synthgen.records import Rejected, Sample, ScoredRecord
from synthgen.rows import StoredRows
from synthgen.settings import Rules

NAME, VERB = "filter", "filter"
READS, GIVES = ScoredRecord, Sample
BY_ROW = False
SINGLE_UNIT = True


def settings(recipe: Recipe) -> dict[str, Any]:
    """Every threshold, and the share of samples held back for validation."""
    return {
        "rules": recipe.filter.rules.model_dump(mode="json"),
        "validation_fraction": recipe.pack.validation_fraction,
    }


def build(recipe: Recipe, run: Path) -> FilterStage:
    """Nothing is loaded."""
    return FilterStage(recipe.filter.rules, recipe.pack.validation_fraction)


def group_of(row: ScoredRecord) -> str:
    """What the samples that a split must not part have in common: the user's file that they were made from (a label map
    in five kinds of weather), or else their prompt."""
    return row.picture.origin or row.parent


def split_of(group: str, validation_fraction: float) -> str:
    """`validation` for about that share of groups, else `train`.

    It follows from the group alone, so a larger run moves no sample over.
    """
    digest = hashlib.blake2b(group.encode(), digest_size=8, person=b"split").digest()
    # 53 bits: the most that a float holds without rounding up to 1
    share = (int.from_bytes(digest, "big") >> 11) / 2**53
    return "validation" if share < validation_fraction else "train"


class FilterStage:
    """See the module."""

    def __init__(self, rules: Rules, validation_fraction: float) -> None:
        self._rules = rules
        self._validation_fraction = validation_fraction

    def process(
        self, rows: Sequence[ScoredRecord] | StoredRows, folder: Path, unit: str
    ) -> Iterator[Sample | Rejected]:
        """A Sample or a Rejected for each row. The reason is the name of the first rule that refuses it."""
        with ByKey(rows, folder) as blocks, Kept(folder) as kept:
            for block, _ in blocks:
                for row in block:
                    refusal = first_refusal(row, self._rules)
                    if refusal is not None:
                        yield _rejected(row, refusal)
            for block, vectors in blocks:
                candidates = [number for number, row in enumerate(block) if first_refusal(row, self._rules) is None]
                # Only kept images count as seen: a refused one must not take others with it.
                similarities = kept.check(
                    vectors[candidates], lambda _, similarity: refusal_of_image(similarity, self._rules) is None
                )
                for number, similarity in zip(candidates, similarities, strict=True):
                    row, refusal = block[number], refusal_of_image(similarity, self._rules)
                    if refusal is not None:
                        yield _rejected(row, refusal)
                        continue
                    split = split_of(group_of(row), self._validation_fraction)
                    yield Sample(
                        row.key,
                        row.parent,
                        split,
                        row.subject,
                        row.picture,
                        row.labelling,
                        row.scores,
                        similarity,
                        row.pair,
                    )


def _rejected(row: ScoredRecord, refusal: Refusal) -> Rejected:
    return Rejected(
        key=row.key,
        parent=row.key,
        stage="filter",
        reason=refusal.rule,
        detail=refusal.verdict.detail,
        score=float(refusal.verdict.score),
    )
