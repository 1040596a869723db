"""The filter's rules: one small pure function each, from stored scores to a verdict.

A rule gives None where it does not apply: class rules to a row that is about no class, text rules to a row without a
prompt, and any rule whose threshold is the value that its description calls off.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from segkit.labels import IGNORE
from synthgen.recipe import Rules
from synthgen.records import ScoredRecord


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule says. `detail` is the comparison that fails if it is not accepted, for example "0.12 < 0.2"."""

    name: str
    score: float
    accepted: bool
    detail: str


Rule = Callable[[ScoredRecord, Rules], Verdict | None]


def at_least(name: str, score: float, threshold: float) -> Verdict:
    """Accepts a score that reaches the threshold."""
    return Verdict(name, score, score >= threshold, f"{score:.4g} < {threshold:.4g}")


def at_most(name: str, score: float, threshold: float) -> Verdict:
    """Accepts a score that does not pass the threshold."""
    return Verdict(name, score, score <= threshold, f"{score:.4g} > {threshold:.4g}")


def blank_image(row: ScoredRecord, rules: Rules) -> Verdict | None:
    """An image of one grey: a failed rendering, or a safety checker's."""
    return at_least("blank_image", row.scores.pixel_std, rules.min_pixel_std)


def class_absent(row: ScoredRecord, rules: Rules) -> Verdict | None:
    """Too little of the mask is the class that the image was made for."""
    return (
        None
        if row.subject.class_id == IGNORE
        else at_least("class_absent", row.labelling.class_fraction, rules.min_class_fraction)
    )


def class_overrun(row: ScoredRecord, rules: Rules) -> Verdict | None:
    """So much of the mask is the class that it has run over into the background."""
    return (
        None
        if row.subject.class_id == IGNORE
        else at_most("class_overrun", row.labelling.class_fraction, rules.max_class_fraction)
    )


def low_labelled_fraction(row: ScoredRecord, rules: Rules) -> Verdict | None:
    """Too little of the mask is labelled at all."""
    return at_least("low_labelled_fraction", row.labelling.labelled_fraction, rules.min_labelled_fraction)


def low_region_similarity(row: ScoredRecord, rules: Rules) -> Verdict | None:
    """The labelled regions look unlike the support images of their classes."""
    if rules.min_region_similarity == -1:
        return None
    return at_least("low_region_similarity", row.labelling.region_similarity, rules.min_region_similarity)


def low_text_image_score(row: ScoredRecord, rules: Rules) -> Verdict | None:
    """The image does not show what its prompt says."""
    if not row.subject.prompt or rules.min_text_image_score == -1:
        return None
    return at_least("low_text_image_score", row.scores.text_image_score, rules.min_text_image_score)


def low_class_rank(row: ScoredRecord, rules: Rules) -> Verdict | None:
    """Other classes are more like the image than the wanted one. `class_rank` -1 says that there was none to rank."""
    if row.subject.class_id == IGNORE or row.scores.class_rank == -1 or rules.max_class_rank == -1:
        return None
    return at_most("low_class_rank", row.scores.class_rank, rules.max_class_rank)


RULES: tuple[Rule, ...] = (
    blank_image,
    class_absent,
    class_overrun,
    low_labelled_fraction,
    low_region_similarity,
    low_text_image_score,
    low_class_rank,
)
"""In the order in which they are asked: a rejected row names the first that fails, so counts add up."""


def first_failure(row: ScoredRecord, rules: Rules) -> Verdict | None:
    """The verdict of the first rule that refuses a row; None if all accept it."""
    verdicts = (rule(row, rules) for rule in RULES)
    return next((verdict for verdict in verdicts if verdict is not None and not verdict.accepted), None)


def near_duplicate_image(similarity: float, rules: Rules) -> Verdict | None:
    """An image too much like one that is kept already. `similarity` is the highest cosine to those, -1 for none."""
    return (
        None
        if rules.max_image_similarity == 1
        else at_most("near_duplicate_image", similarity, rules.max_image_similarity)
    )
