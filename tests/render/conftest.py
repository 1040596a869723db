"""The render stage with a renderer that notes what it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from doubles.recorder import Recorder, recipe_of

from synthgen.recipe import Recipe
from synthgen.records import PromptRecord
from synthgen.render import stage


@pytest.fixture
def render(tmp_path: Path) -> Callable[..., tuple[list[Any], Recorder]]:
    """`render(rows, recipe)` -> (what the stage gives, the renderer with its jobs);

    the run folder is tmp_path, the unit's is tmp_path/work.
    """

    def do(rows: Sequence[PromptRecord], recipe: Recipe | None = None) -> tuple[list[Any], Recorder]:
        recorder = Recorder()
        (tmp_path / "work").mkdir(exist_ok=True)
        return list(
            stage.stage_with(recorder, recipe or recipe_of(), tmp_path).process(rows, tmp_path / "work", "u-7")
        ), recorder

    return do
