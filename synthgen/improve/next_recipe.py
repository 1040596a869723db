"""The recipe of the next round: the run's own, aimed at what the segmenter is weak at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from synthgen.backends import statement
from synthgen.classes import wanted_classes
from synthgen.errors import RecipeError
from synthgen.labels import read_label_space
from synthgen.prompts.need import Need, quotas
from synthgen.recipe import Recipe, recipe_of_sets

SEEDS = 2**31


def aimed(base: Recipe, need: Need, count: int, number: int, earlier: Path | None, sets: Sequence[str]) -> Recipe:
    """`count` images of round `number` (1, 2, ...), with noise and order of their own.

    Where the quota decides how many prompts a class has it follows from `need`, and the bank keeps away from the
    sentences of `earlier`; a source that gives a list of its own says how it is aimed (`aimed` of its file). Raises
    RecipeError for a source that cannot be, and what `sets` raise.
    """
    raw = base.model_dump(mode="json")
    per_prompt = recipe_of_sets(base.model_dump(mode="json"), sets, f"round {number}").render.images_per_prompt
    prompts = max(1, round(count / per_prompt))
    source = raw["prompts"]["source"]
    changed = statement("prompt_source", source, "aimed", None, need, prompts)
    if changed is not None:
        raw["prompts"]["source"] = {**source, **changed}
    elif statement("prompt_source", source, "num_given", None) is not None:
        raise RecipeError(
            f"prompts.source {source['name']!r}: gives the list that it has, so nothing can be aimed at; a source that "
            "proposes (grammar, llm) or draws maps (layouts) can"
        )
    else:
        names = [label.name for label in wanted_classes(base, read_label_space(base.labels.space))]
        weights = {name: need.of_class(name) for name in names}
        shares = quotas({name: 1.0 if weight is None else weight for name, weight in weights.items()}, prompts)
        raw["prompts"]["quotas"] = shares
        most = max(base.prompts.quota(name) for name in names)
        tries = math.ceil(base.prompts.budget_per_class * max(1.0, max(shares.values()) / max(1, most)))
        raw["prompts"]["budget_per_class"] = tries
        raw["prompts"]["apart_from"] = str(earlier.resolve()) if earlier else ""
    raw["seed"] = (base.seed + number) % SEEDS
    raw["title"] = f"{base.title}; round {number} of synthgen improve".removeprefix("; ")
    return recipe_of_sets(raw, sets, f"round {number}")
