"""The stages in their order. Each stage is a module that says itself what it is; nothing else knows them by name.

    prompts -> render -> refine -> score -> filter -> pack -> dataset/

A stage module has

    NAME, VERB       the folder in a run, and the command that does it: `score` and `filter` are both `synthgen filter`
    READS, GIVES     the record types of its input and output; READS None = the first stage
    BY_ROW           each row gives its own results, whatever the rows beside it
    SINGLE_UNIT      it must see all rows at once
    settings(recipe) what changes its results; other settings in the same folder are refused
    build(recipe, run) -> object with process(rows, folder, unit); loads models, called only if a unit is missing

and may have

    plan(rows, recipe)          its own units: (name, rows) of each
    card_facts(stage)           what it adds to the data card, by field of pack.counts.RunCounts
    closing_lines(stage)        what it adds to the closing table of a run
    finish(recipe, run, stage, facts)   what is left to do when every unit is there; facts: of all stages, for the card
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from synthgen import claims
from synthgen.recipe import Recipe
from synthgen.runner import StageRun

_MODULES = (
    "synthgen.prompts.stage",
    "synthgen.render.stage",
    "synthgen.refine.stage",
    "synthgen.filter.score",
    "synthgen.filter.stage",
    "synthgen.pack.stage",
)


def modules() -> dict[str, ModuleType]:
    """Name -> module of every stage, in order. Importing them loads no model."""
    loaded = [importlib.import_module(path) for path in _MODULES]
    return {module.NAME: module for module in loaded}


def names(verb: str = "") -> tuple[str, ...]:
    """The stages that a verb stands for, in order; all for ""."""
    return tuple(name for name, module in modules().items() if verb in ("", module.VERB))


def names_from(name: str) -> tuple[str, ...]:
    """A stage and all that follow; none for ""."""
    every = names()
    return every[every.index(name) :] if name else ()


def stages(run: Path) -> dict[str, StageRun]:
    """Every stage of a run folder, in order, whether it has begun or not."""
    every: dict[str, StageRun] = {}
    before: StageRun | None = None
    for name, module in modules().items():
        before = every[name] = StageRun(name, run / name, module.GIVES, before)
    return every


def settings(recipe: Recipe, name: str) -> dict[str, Any]:
    """The fingerprinted settings of a stage: what its own module says they are, and digests of those of the stages
    before it.

    So when a stage is moved away and made again otherwise, no stage after it still seems to fit.
    """
    return next(own for stage, own in all_settings(recipe) if stage == name)


def all_settings(recipe: Recipe) -> Iterator[tuple[str, dict[str, Any]]]:
    """(stage, settings) in order; those of a later stage are computed when they are asked for."""
    before: dict[str, str] = {}
    for name, module in modules().items():
        own = module.settings(recipe)
        yield name, {**own, "stages_before": dict(before)}
        before[name] = claims.fingerprint(own)
