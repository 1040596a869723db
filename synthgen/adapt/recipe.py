"""Which recipe an adaptation follows: a named one, or the defaults for a folder and a base."""

from __future__ import annotations

import math
from collections.abc import Sequence

import yaml

from synthgen.adapt.labelled import SPACE_OF_FOLDER
from synthgen.recipe import Recipe, read_recipe, recipe_of_sets

BASE = "stabilityai/stable-diffusion-3.5-medium"


def recipe_for(name_or_path: str, data: str, base: str, sets: Sequence[str]) -> Recipe:
    """The recipe, with `--data` and `--base` put in. Without a name, all is default and the label space is that of the
    folder. Raises RecipeError in one line.
    """
    given = [f"adapt.data.folder={_quoted(data)}"] if data else []
    if base:
        given.append(f"render.renderer.model={_quoted(base)}")
    if name_or_path:
        return read_recipe(name_or_path, [*given, *sets])
    plain = {
        "name": "adapted",
        "labels": {"space": SPACE_OF_FOLDER},
        "render": {"renderer": {"name": "sd3", "model": BASE}},
    }
    return recipe_of_sets(plain, [*given, *sets], "synthgen adapt")


def _quoted(text: str) -> str:
    """As YAML reads it back, whatever it looks like."""
    quoted: str = yaml.safe_dump(text, default_style='"', width=math.inf)
    return quoted.rstrip("\n")
