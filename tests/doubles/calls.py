"""Counts what the doubles are asked to do, over all processes of a run:

one line a call in the file that DOUBLES_CALLS names.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "DOUBLES_CALLS"


def note(what: str) -> None:
    """Append a line; a single small write is not torn by other processes."""
    path = os.environ.get(VARIABLE)
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(what + "\n")


def noted(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
