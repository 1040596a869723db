"""What in a run folder synthgen has made. That is told by a mark of its own, never by a name.

A stage's folder has its claim (stage.json), the lock its first line, the dataset's folder the file MARK, written before
anything else. What has no mark is somebody's: it is refused in one line, never renamed, overwritten or removed.
"""

from __future__ import annotations

import os
from pathlib import Path

from synthgen import storage
from synthgen.errors import RunError, StorageError
from synthgen.runner import StageRun

DATASET = "dataset"
MARK = ".synthgen-dataset"
MARK_TEXT = "synthgen made this folder and may replace what is in it\n"


def require_stage(stage: StageRun) -> None:
    """Raise RunError if there is a folder of a stage's name that no stage has claimed."""
    if stage.is_claimed():
        return
    try:
        there = [name for name in storage.names(stage.folder) if not name.startswith(".")]
    except OSError:
        return
    if there:
        raise RunError(_not_ours(stage.folder, there[0]))


def require_dataset(folder: Path) -> None:
    """Raise RunError if there is a dataset folder that holds files and has no mark."""
    if storage.store_of(folder) is None and not os.path.lexists(folder):
        return
    try:
        there = storage.names(folder)
    except OSError:
        return
    if there and MARK not in there:
        raise RunError(_not_ours(folder, there[0]))


def claim_dataset(folder: Path) -> None:
    """Make the dataset's folder, or take an empty one, and mark it. Raises RunError if it is somebody else's."""
    require_dataset(folder)
    try:
        folder.mkdir(exist_ok=True)
        if not (folder / MARK).exists():
            (folder / MARK).write_text(MARK_TEXT, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{folder}: cannot be made ({error.strerror or error})") from error
    storage.publish(folder / MARK)


def _not_ours(folder: Path, name: str) -> str:
    return (
        f"{folder}: holds {name!r} and no mark of synthgen, so it is not ours to write in; move it away or choose "
        "another run folder (--run)"
    )
