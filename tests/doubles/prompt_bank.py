"""The prompt stage, run over a recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from synthgen.prompts import stage
from synthgen.recipe import Recipe
from synthgen.records import PromptRecord, Rejected

MakeRecipe = Callable[..., Recipe]
TWO = {"classes": ("cat", "bus")}


def run(recipe: Recipe, folder: Path) -> tuple[list[PromptRecord], list[Rejected]]:
    folder.mkdir(parents=True)
    rows = list(stage.build(recipe, folder.parent).process([], folder, "00000"))
    return [row for row in rows if isinstance(row, PromptRecord)], [row for row in rows if isinstance(row, Rejected)]
