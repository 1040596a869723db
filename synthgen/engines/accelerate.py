"""Engine `accelerate`: `accelerate launch -m synthgen run RECIPE` on one or more machines that share the run folder.

Rank r of n does the units r, r + n, ... of every stage; a stage that must see all rows is one unit, so rank 0 does it. Before the next stage
every rank waits for all of them: a stage reads only what is finished.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from synthgen.runner import Unit


def is_launched() -> bool:
    """Whether this process was started by `accelerate launch` or torchrun with several ranks."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def run_units(work: Callable[[Unit], tuple[int, int]], units: Sequence[Unit]) -> Iterator[tuple[Unit, int, int]]:
    """This rank's share of the units, in order."""
    for unit in units[rank() :: int(os.environ["WORLD_SIZE"])]:
        yield (unit, *work(unit))


def wait_for_all() -> None:
    """A barrier over the ranks."""
    from accelerate import PartialState

    PartialState().wait_for_everyone()


def device() -> str:
    """The device of this rank: its own GPU, or the CPU."""
    from accelerate import PartialState

    return str(PartialState().device)
