"""Renderer: the painter, with faults that a test asks for.

`fails_in`: one in so many seeds raises an error as long as the file `cured` is not there. `most`: more jobs than these
in a call are too much for the memory of the pretended GPU. `once`: the first call of all raises, which leaves the file.
`kills`: the process ends by SIGKILL at a call as long as fewer than so many lines are in the file `deaths`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from doubles import painter
from doubles.calls import note
from synthgen.models import Rendered, RenderJob


class Options(painter.Options):
    fails_in: int = 0
    cured: str = ""
    most: int = 0
    once: str = ""
    kills: int = 0
    deaths: str = ""
    slow_s: float = 0.0


def build(options: Options, execution: object) -> FaultyPainter:
    note("build renderer")
    return FaultyPainter(options)


class FaultyPainter(painter.Painter):
    """See the module."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._faults = options

    def render(self, jobs: Sequence[RenderJob]) -> list[Rendered]:
        faults = self._faults
        time.sleep(faults.slow_s)
        if faults.most and len(jobs) > faults.most:
            import torch

            note(f"out of memory at {len(jobs)}")
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {len(jobs)} GiB")
        if faults.once and not Path(faults.once).exists():
            Path(faults.once).touch()
            raise RuntimeError("a passing fault")
        if faults.kills and len(deaths(faults)) < faults.kills:
            with Path(faults.deaths).open("a") as file:
                file.write(f"{os.getpid()}\n")
            os.kill(os.getpid(), signal.SIGKILL)
        bad = [job.seed for job in jobs if faults.fails_in and job.seed % faults.fails_in == 0]
        if bad and not (faults.cured and Path(faults.cured).exists()):
            raise ArithmeticError(f"seed {bad[0]} cannot be painted")
        return super().render(jobs)


def deaths(options: Options) -> list[str]:
    """Process ids that have been killed so far."""
    return Path(options.deaths).read_text().split() if Path(options.deaths).exists() else []
