"""Who works on a stage together: this process with its workers, or the ranks of `accelerate launch`.

A team hands out units and knows how the stage stands over all of its members; the pipeline knows no engine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from synthgen import storage
from synthgen.engines import accelerate, local, ray
from synthgen.runner import StageRun, Unit
from synthgen.settings import Execution

Work = Callable[[Unit], tuple[int, int]]
Standing = tuple[int, int, int, int]
"""Units done, units, rows made, rows refused."""


class Team(Protocol):
    """What the pipeline asks of those who work together."""

    leads: bool  # whether this process claims, plans and finishes

    def wait(self) -> None:
        """Until every member is here."""
        ...

    def begin(self, stage: StageRun, missing: Sequence[Unit]) -> list[Unit]:
        """A stage begins, of which this process sees these units to be missing; gives those that are to be done."""
        ...

    def run_units(self, work: Work, units: Sequence[Unit], again: bool) -> Iterator[tuple[Unit, int, int]]:
        """(unit, rows made, rows refused) as this process's share is done. `again`: units that others gave up."""
        ...

    def add(self, made: int, refused: int) -> None:
        """A unit of this process is done."""
        ...

    def standing(self) -> Standing:
        """How the stage stands, as far as this process can tell."""
        ...

    def rest(self) -> Iterator[Standing]:
        """How it stands while the other members finish theirs; ends when the stage is whole."""
        ...


def team_of(execution: Execution) -> Team:
    """The ranks if this process was launched as one of them, else this process and its workers."""
    return Ranks() if accelerate.is_launched() else Alone(execution)


class Alone:
    """This process, with the workers of its engine."""

    leads = True

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._counts = [0, 0, 0, 0]

    def wait(self) -> None:
        """Nobody to wait for."""

    def begin(self, stage: StageRun, missing: Sequence[Unit]) -> list[Unit]:
        """Counts what is done already."""
        units = len(stage.units())
        self._counts = [units - len(missing), units, stage.num_rows(), stage.num_rejected()]
        return list(missing)

    def run_units(self, work: Work, units: Sequence[Unit], again: bool) -> Iterator[tuple[Unit, int, int]]:
        """By Ray or by processes of this machine."""
        execution = self._execution
        if execution.engine == "ray":
            return ray.run_units(work, units, execution.ray, execution.device, execution.retries)
        return local.run_units(work, units, execution.workers, execution.retries)

    def add(self, made: int, refused: int) -> None:
        self._counts[0] += 1
        self._counts[2] += made
        self._counts[3] += refused

    def standing(self) -> Standing:
        done, units, made, refused = self._counts
        return done, units, made, refused

    def rest(self) -> Iterator[Standing]:
        return iter(())


class Ranks:
    """The ranks of one launch. Rank 0 counts what all of them have finished: a folder is listed once a second at most,
    a footer is read once.
    """

    EVERY_S = 1.0

    def __init__(self) -> None:
        self.leads = accelerate.rank() == 0
        self._stage: Any = None
        self._missing: dict[str, Unit] = {}
        self._num_units = self._made = self._refused = 0
        self._looked = -self.EVERY_S

    def wait(self) -> None:
        accelerate.wait_for_all()

    def begin(self, stage: StageRun, missing: Sequence[Unit]) -> list[Unit]:
        """Ranks share out the same list, the first one's: nobody starts before all have it.

        Another launch on the same run folder may finish units between the looks of two ranks; of lists that differ some
        units would be in nobody's share.
        """
        accelerate.wait_for_all()
        names = set(accelerate.of_first_rank([unit.name for unit in missing]))
        shared = [unit for unit in stage.units() if unit.name in names]
        self._stage, self._missing = stage, {unit.name: unit for unit in shared}
        self._num_units, self._made, self._refused = len(stage.units()), stage.num_rows(), stage.num_rejected()
        self._looked = -self.EVERY_S
        return shared

    def run_units(self, work: Work, units: Sequence[Unit], again: bool) -> Iterator[tuple[Unit, int, int]]:
        return local.run_units(work, units, 1) if again else accelerate.run_units(work, units)

    def add(self, made: int, refused: int) -> None:
        """Nothing: what is done lies in the folder."""

    def standing(self) -> Standing:
        if time.monotonic() - self._looked >= self.EVERY_S:
            storage.fetch_units(self._stage.folder, self._missing)
            with os.scandir(self._stage.folder) as entries:
                for name in [entry.name for entry in entries if entry.name in self._missing]:
                    made, refused = self._stage.counts(self._missing.pop(name))
                    self._made, self._refused = self._made + made, self._refused + refused
            self._looked = time.monotonic()
        return self._num_units - len(self._missing), self._num_units, self._made, self._refused

    def rest(self) -> Iterator[Standing]:
        while self.leads and not self._all_done():
            yield self.standing()
            time.sleep(accelerate.POLL_S)
        accelerate.wait_for_all(self._all_done)
        yield self._num_units, self._num_units, self._stage.num_rows(), self._stage.num_rejected()

    def _all_done(self) -> bool:
        done, units, _, _ = self.standing()
        return done == units
