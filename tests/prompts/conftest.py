from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synthgen.recipe import Recipe

ENCODER = "prompt_doubles.word_bag"


@pytest.fixture(autouse=True)
def word_bag(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The double as a module with a dotted name, as somebody's own backend has it."""
    spec = importlib.util.spec_from_file_location(ENCODER, Path(__file__).with_name("word_bag.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, ENCODER, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def recipe_with() -> Callable[..., Recipe]:
    """A recipe over the `objects` label space;

    keyword arguments are settings of `prompts`, `labels`, `render` and `seed` override the rest.
    """

    def make(
        labels: dict[str, Any] | None = None, render: dict[str, Any] | None = None, seed: int = 0, **prompts: Any
    ) -> Recipe:
        return Recipe.model_validate(
            {
                "name": "test",
                "seed": seed,
                "labels": {"space": "objects", **(labels or {})},
                "prompts": {"embedder": {"name": ENCODER}, **prompts},
                "render": render or {},
            }
        )

    return make
