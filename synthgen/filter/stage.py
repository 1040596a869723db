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
from synthgen.filter.duplicates import Kept
from synthgen.filter.rules import Verdict, first_failure, near_duplicate_image
from synthgen.recipe import Recipe, Rules
from synthgen.records import Rejected, Sample, ScoredRecord
from synthgen.rows import StoredRows

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


def split_of(key: str, validation_fraction: float) -> str:
    """`validation` for about that share of keys, else `train`.

    It follows from the key alone, so a larger run moves no sample over.
    """
    digest = hashlib.blake2b(key.encode(), digest_size=8, person=b"split").digest()
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
                    failure = first_failure(row, self._rules)
                    if failure is not None:
                        yield _rejected(row, failure)
            for block, vectors in blocks:
                candidates = [number for number, row in enumerate(block) if first_failure(row, self._rules) is None]
                # Only kept images count as seen: a refused one must not take others with it.
                similarities = kept.check(
                    vectors[candidates], lambda _, similarity: self._duplicate(similarity) is None
                )
                for number, similarity in zip(candidates, similarities, strict=True):
                    row, failure = block[number], self._duplicate(similarity)
                    if failure is not None:
                        yield _rejected(row, failure)
                        continue
                    split = split_of(row.key, self._validation_fraction)
                    yield Sample(
                        row.key,
                        row.parent,
                        split,
                        row.subject,
                        row.picture,
                        row.labelling,
                        row.scores,
                        similarity,
                    )

    def _duplicate(self, similarity: float) -> Verdict | None:
        verdict = near_duplicate_image(similarity, self._rules)
        return verdict if verdict is not None and not verdict.accepted else None


def _rejected(row: ScoredRecord, failure: Verdict) -> Rejected:
    return Rejected(
        key=row.key,
        parent=row.key,
        stage="filter",
        reason=failure.name,
        detail=failure.detail,
        score=float(failure.score),
    )
