"""Asks the rules of synthgen/filter/rules, each with its own threshold."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from synthgen.filter.verdict import Verdict
from synthgen.plugins import modules
from synthgen.records import ScoredRecord
from synthgen.settings import RULES, Rules


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """One file of the folder."""

    name: str
    setting: str  # of filter.rules
    needs: tuple[str, ...]  # columns of ScoredRecord
    decide: Callable[[ScoredRecord, Any], Verdict | None] | None
    compare: Callable[[float, Any], Verdict | None] | None


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """Which rule refuses, and why."""

    rule: str
    verdict: Verdict


@functools.cache
def rules() -> tuple[Rule, ...]:
    """In the order in which they are asked: a rejected row names the first that refuses it, so counts add up."""
    found = sorted((module.ORDER, name, module) for name, module in modules(RULES))
    return tuple(
        Rule(name, module.SETTING, module.NEEDS, vars(module).get("decide"), vars(module).get("compare"))
        for _, name, module in found
    )


def first_refusal(row: ScoredRecord, thresholds: Rules) -> Refusal | None:
    """Of the first rule that refuses a row by its own scores; None if all accept it."""
    for rule in rules():
        verdict = rule.decide(row, getattr(thresholds, rule.setting)) if rule.decide else None
        if verdict is not None and not verdict.accepted:
            return Refusal(rule.name, verdict)
    return None


def refusal_of_image(similarity: float, thresholds: Rules) -> Refusal | None:
    """Of the first rule that refuses an image for its highest cosine to those kept before."""
    for rule in rules():
        verdict = rule.compare(similarity, getattr(thresholds, rule.setting)) if rule.compare else None
        if verdict is not None and not verdict.accepted:
            return Refusal(rule.name, verdict)
    return None
