"""`python -m doubles.ranked ...` is `python -m synthgen ...` with a temporary folder of this rank alone."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from synthgen.cli import app

if __name__ == "__main__":
    folder = Path(os.environ["RANK_FOLDERS"]) / os.environ["RANK"]
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(folder)
    app()
