"""Whole runs in this process, without the command line."""

from __future__ import annotations

from pathlib import Path

from synthgen import pipeline
from synthgen.recipe import read_recipe


def whole_run(recipe: Path, run: Path, *sets: str) -> Path:
    """Run all stages; returns the run folder."""
    settings = read_recipe(str(recipe), sets)
    pipeline.check_claim(settings, run, tuple(pipeline.MODULES))
    pipeline.write_lock(settings, run)
    for name in pipeline.MODULES:
        for _ in pipeline.run_stage(settings, run, name):
            pass
    return run
