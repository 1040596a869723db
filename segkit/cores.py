"""How many cores this process may use."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Those of its affinity, which a scheduler or `taskset` may have narrowed; all where there is no such thing."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
