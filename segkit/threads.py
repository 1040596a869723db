"""How long the threads of a CPU wait for one another."""

from __future__ import annotations

import os

SPINS = "10000"  # some ten microseconds: longer than the gap between two small operations


def wait_briefly() -> None:
    """Let OpenMP's threads spin for a moment and then sleep; call it before torch is loaded, which reads it once.

    By default GNU's OpenMP spins for milliseconds, so a network of small operations is a hundred times slower beside
    another busy process; asleep at once (OMP_WAIT_POLICY=PASSIVE) it takes nearly twice the time on a quiet machine.
    What the environment says already stays. Children take it over.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
