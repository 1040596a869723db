"""Engine `local`: the units of a stage in this process, or in a few processes of this machine.

Workers never talk to each other: a worker takes a unit, and what it leaves behind is the unit's folder.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from synthgen.errors import RunError
from synthgen.runner import Unit


def run_units(
    work: Callable[[Unit], tuple[int, int]], units: Sequence[Unit], workers: int, retries: int = 2
) -> Iterator[tuple[Unit, int, int]]:
    """Do every unit with `work(unit) -> (made, refused)`; yields (unit, made, refused) as they finish.

    With more than one worker `work` must be picklable; a worker loads its models at its first unit. The first error
    stops the handing-out and is raised; units that are finished stay finished. If a worker is killed from outside, the
    units that are not finished go to new workers; raises RunError after `retries` such deaths without a finished unit
    between them.
    """
    if workers <= 1 or len(units) <= 1:
        for unit in units:
            yield (unit, *work(unit))
        return
    left, deaths = list(units), 0
    while left:
        try:
            for unit, made, refused in _in_pool(work, left, workers):
                left.remove(unit)
                deaths = 0
                yield unit, made, refused
        except BrokenProcessPool as error:
            deaths += 1
            if deaths > retries:
                raise RunError(
                    "a worker process was killed, most likely for want of memory; lower execution.workers or "
                    "execution.batch_size, "
                    "then run the same command again"
                ) from error


def _in_pool(
    work: Callable[[Unit], tuple[int, int]], units: Sequence[Unit], workers: int
) -> Iterator[tuple[Unit, int, int]]:
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    begun = context.Value("i", 0)
    pool = ProcessPoolExecutor(min(workers, len(units)), mp_context=context, initializer=_begin, initargs=(begun,))
    try:
        tasks: dict[Any, Unit] = {pool.submit(work, unit): unit for unit in units}
        for task in as_completed(tasks):
            yield (tasks[task], *task.result())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def worker_number() -> int | None:
    """Of this worker process among those of its pool, from 0; None in a process that is none."""
    return _number


_number: int | None = None


def _begin(begun: Any) -> None:
    """What a worker does first: takes the next number, and sees to its own end."""
    global _number
    with begun.get_lock():
        _number = begun.value
        begun.value += 1
    _end_with_parent()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for its next unit for ever, models in memory."""
    # Ctrl-C reaches workers too: go at once, the parent has the word for it
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
