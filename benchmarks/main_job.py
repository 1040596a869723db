"""The main job from a fresh clone: rows main/*.

The time of `synthgen run`, as `make dataset` starts it, without the installation.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peak import peak_of
from benchmarks.row import Row

ROOT = Path(__file__).parents[1]


def dataset() -> Iterator[Row]:
    """Clone the committed tree into an empty folder, run the default recipe there, verify the dataset."""
    with tempfile.TemporaryDirectory() as place:
        clone = Path(place) / "synthgen"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        command = [sys.executable, "-m", "synthgen", "run", "syn4seg-mini"]
        environment = os.environ | {
            "PYTHONPATH": str(clone),
            "MALLOC_TRIM_THRESHOLD_": "1000000000",
            "MALLOC_MMAP_THRESHOLD_": "1000000000",
        }
        began = time.monotonic()
        peak = peak_of(command, clone, environment)
        minutes = (time.monotonic() - began) / 60
        finished = clone / "runs" / "syn4seg-mini" / "dataset"
        subprocess.run(
            [sys.executable, "-m", "synthgen", "verify", str(finished)], cwd=clone, env=environment, check=True
        )
        kept = json.loads((finished / "index.json").read_text(encoding="utf-8"))["num_samples"]
    yield Row("main/dataset_minutes", minutes, "min")
    yield Row("main/kept_samples", kept, "samples")
    yield Row("main/peak_rss_gb", peak, "GB")
