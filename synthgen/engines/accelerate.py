"""Engine `accelerate`: `accelerate launch -m synthgen run RECIPE` on one or more machines that share the run folder.

Rank r of n does the units r, r + n, ... of what the first one sees to be missing of a stage; a stage that must see all
rows is one unit, so rank 0 does it.
Before the next stage every rank waits for all of them: a stage reads only what is finished.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from synthgen.runner import Unit

POLL_S = 0.5


def is_launched() -> bool:
    """Whether this process was started by `accelerate launch` or torchrun with several ranks."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def run_units(work: Callable[[Unit], tuple[int, int]], units: Sequence[Unit]) -> Iterator[tuple[Unit, int, int]]:
    """This rank's share of the units, in order."""
    for unit in units[rank() :: int(os.environ["WORLD_SIZE"])]:
        yield (unit, *work(unit))


def wait_for_all(ready: Callable[[], bool] = lambda: True) -> None:
    """A barrier over the ranks, entered when `ready`:

    a stage may take hours, a barrier of torch gives up after minutes.
    """
    while not ready():
        time.sleep(POLL_S)
    _state().wait_for_everyone()


def of_first_rank(value: Any) -> Any:
    """What the first rank gives here, on every rank; all of them must come by. The value is pickled."""
    from accelerate.utils import broadcast_object_list

    _state()
    return broadcast_object_list([value])[0]


def device() -> str:
    """The device of this rank: its own GPU, or the CPU."""
    return str(_state().device)


@functools.cache
def _state() -> Any:
    import torch
    from accelerate import PartialState

    # unless it is told, accelerate takes ranks without a GPU for processes that have nothing to do with each other
    return PartialState(cpu=not torch.cuda.is_available())
