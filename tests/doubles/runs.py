"""Whole runs in this process, without the command line."""

from __future__ import annotations

import hashlib
from pathlib import Path

from synthgen import pipeline, stages
from synthgen.engines.events import FOLDER
from synthgen.recipe import read_recipe
from synthgen.runner import SECONDS


def whole_run(recipe: Path, run: Path, *sets: str) -> Path:
    """Run all stages; returns the run folder."""
    settings, _ = pipeline.begin(read_recipe(str(recipe), sets), run)
    for name in stages.names():
        for _ in pipeline.run_stage(settings, run, name):
            pass
    return run


def digest(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder but times and the event log."""
    files = (
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != SECONDS and path.parent.name != FOLDER
    )
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
