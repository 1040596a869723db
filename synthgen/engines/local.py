"""Engine `local`: the units of a stage in this process, or in a few processes of this machine.

Workers never talk to each other: a worker takes a unit, and what it leaves behind is the unit's folder.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from synthgen.runner import Unit


def run_units(work: Callable[[Unit], tuple[int, int]], units: Sequence[Unit], workers: int) -> Iterator[tuple[Unit, int, int]]:
    """Do every unit with `work(unit) -> (made, refused)`; yields (unit, made, refused) as they finish.

    With more than one worker `work` must be picklable; a worker loads its models at its first unit. The first error stops the handing-out and
    is raised; units that are finished stay finished.
    """
    if workers <= 1 or len(units) <= 1:
        for unit in units:
            yield (unit, *work(unit))
        return
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    pool = ProcessPoolExecutor(min(workers, len(units)), mp_context=context)
    try:
        tasks: dict[Any, Unit] = {pool.submit(work, unit): unit for unit in units}
        for task in as_completed(tasks):
            yield (tasks[task], *task.result())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
