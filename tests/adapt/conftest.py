"""A narrow base of the SD3 kind with random weights, and a few labelled drawings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.adaptations import TINY
from doubles.mini_family import write_family

from synthgen.adapt.recipe import recipe_for
from synthgen.drawn.split import write_split
from synthgen.recipe import Recipe


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two blocks, a tokenizer of 16 positions, no T5."""
    return write_family(tmp_path_factory.mktemp("base") / "family")


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five streets by day."""
    folder = tmp_path_factory.mktemp("labelled") / "day"
    write_split(folder, "streets", 5, 3_000_000, domain="day")
    return folder


@pytest.fixture(scope="session")
def tiny(base: Path, labelled: Path) -> Callable[..., Recipe]:
    """`tiny("a.b=value", ...)`: the recipe of an adaptation of a few steps."""

    def recipe(*sets: str, data: Any = labelled, model: Any = base) -> Recipe:
        return recipe_for("", str(data), str(model), [*TINY, *sets])

    return recipe
