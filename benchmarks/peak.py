"""Runs a command and watches the memory of it and of all that it starts."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

EVERY_S = 0.5


def peak_of(command: Sequence[str], cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> float:
    """2^30 bytes that the command and its descendants held together, at the most. Pages that they share are counted for
    each, so this is an upper bound. Raises CalledProcessError if it fails.
    """
    process = subprocess.Popen(command, cwd=cwd, env=environment)
    peak = 0.0
    try:
        while process.poll() is None:
            peak = max(peak, _resident_gb(process.pid))
            time.sleep(EVERY_S)
    except BaseException:
        process.terminate()
        raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return peak


def _resident_gb(pid: int) -> float:
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total / 2**30
