"""How much memory this process has held."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_bytes() -> int:
    """The most that was resident at once.

    Linux keeps it for each program that a process becomes. `ru_maxrss`, which serves elsewhere, is there not less than
    what the process had that started it: a small one that a notebook of ten gigabytes starts would have held ten.
    """
    for line in _STATUS.read_text(encoding="ascii").splitlines() if _STATUS.is_file() else ():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return 1024 * int(value.split()[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes
