"""One unit of a stage, done in whatever process finds itself with it: this one, a worker, a rank, a Ray actor."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from synthgen import claims, leases, runner, storage
from synthgen.engines import accelerate, events, local, retry
from synthgen.errors import RunError
from synthgen.models.devices import device_of_worker, use_threads
from synthgen.models.provenance import pinned
from synthgen.recipe import Recipe
from synthgen.rows import StoredRows, give_memory_back
from synthgen.runner import StageRun, Unit
from synthgen.stages import modules, stages

LEFT = (-1, -1)  # instead of counts: another process has taken the unit


class Work:
    """Does one unit of a stage. Models are loaded at the first unit, at the commits that the recipe is pinned to.

    `owner` is the fingerprint of the settings that the stage was claimed for. Units in `forced` are done whoever has
    scratch of them; `again` says that units are those which others had taken at first.
    """

    def __init__(self, recipe: Recipe, run: Path, name: str, owner: str, log: bool) -> None:
        self.recipe, self.run, self.name = recipe, run.absolute(), name
        self.owner, self.log = owner, log
        self.url = storage.url_for(run)
        self.again = False
        self.forced: frozenset[str] = frozenset()

    def __call__(self, unit: Unit) -> tuple[int, int]:
        """Rows made and refused, or LEFT."""
        with pinned(self.recipe.models):
            return self._do(unit)

    def _do(self, unit: Unit) -> tuple[int, int]:
        give_memory_back()
        stage = stages(self.run)[self.name]
        if self.url:
            storage.attach(self.run, self.url)
            stage.is_claimed()  # brings the claim to a worker on another machine
        storage.fetch_units(stage.folder, [unit.name])
        if stage.is_done(unit):  # another launch, or a worker that was lost after it
            return stage.counts(unit)
        if unit.name not in self.forced and leases.is_taken(stage.folder, unit.name):
            return LEFT
        began = time.monotonic()
        processor = built(self.recipe.model_dump_json(), self.run, self.name)
        made, refused = retry.attempt(
            stage,
            unit,
            _Owned(processor, stage, self.owner),
            self._rows(stage, unit),
            retries=self.recipe.execution.retries,
            by_row=modules()[self.name].BY_ROW,
            tell=self._tell,
        )
        if self.log:
            seconds = round(time.monotonic() - began, 3)
            self._tell(
                "unit", unit=unit.name, made=made, refused=refused, seconds=seconds, gpu_gb=events.gpu_memory_gb()
            )
        return made, refused

    def _tell(self, event: str, **facts: Any) -> None:
        events.write_event(self.run, event, stage=self.name, **facts)

    def _rows(self, stage: StageRun, unit: Unit) -> Any:
        """A sequence; for a stage that must see all rows StoredRows."""
        if stage.reads is None:
            return []
        if unit.keys:
            wanted = set(unit.keys)
            return [row for row in input_of(self.run, self.name).iter_rows() if row.key in wanted]
        module = modules()[self.name]
        if hasattr(module, "plan"):
            return list(planned(self.recipe.model_dump_json(), self.run, self.name)[unit.name])
        stored = stored_input(self.run, self.name)
        return stored if module.SINGLE_UNIT else stored.rows(unit.start, unit.stop)


class _Owned:
    """A stage that commits nothing to a folder which another launch has meanwhile claimed for other settings.

    Looked at when the unit's scratch is there (from then on nobody takes the claim for void) and again before the
    commit.
    """

    def __init__(self, processor: Any, stage: StageRun, owner: str) -> None:
        self._processor, self._stage, self._owner = processor, stage, owner

    @property
    def batch_size(self) -> int:
        return getattr(self._processor, "batch_size", 1)

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self._processor.batch_size = size

    def process(self, rows: Sequence[Any], folder: Path, unit: str) -> Iterator[Any]:
        """As the stage does. Raises RunError if the claim is lost."""
        self._check()
        yield from self._processor.process(rows, folder, unit)
        self._check()

    def _check(self) -> None:
        storage.refresh(self._stage.folder / runner.CLAIM)
        if _owner_of(self._stage, claims.stamp(self._stage.folder / runner.CLAIM)) != self._owner:
            raise RunError(
                f"{self._stage.folder}: another launch has taken this run folder for another recipe; use another run "
                "folder (--run)"
            )


@functools.lru_cache(maxsize=1)
def _owner_of(stage: StageRun, stamp: Any) -> str:
    """`stamp` changes with the file, so it is read only if it is another one."""
    return claims.fingerprint(stage.claim()["settings"])


@functools.lru_cache(maxsize=1)
def built(recipe: str, run: Path, name: str) -> Any:
    """The stage with its models, kept for the units that this process does."""
    settings = Recipe.model_validate_json(recipe)
    if accelerate.is_launched() and settings.execution.device == "auto":
        execution = settings.execution.model_copy(update={"device": accelerate.device()})
        settings = settings.model_copy(update={"execution": execution})
    number = local.worker_number()
    if number is not None:  # of several processes on this machine each takes its GPU
        device = device_of_worker(settings.execution.device, number)
        settings = settings.model_copy(update={"execution": settings.execution.model_copy(update={"device": device})})
    use_threads(settings.execution)
    return modules()[name].build(settings, run)


@functools.lru_cache(maxsize=1)
def planned(recipe: str, run: Path, name: str) -> dict[str, Sequence[Any]]:
    """Unit -> rows, of a stage that plans its own units."""
    return dict(modules()[name].plan(input_of(run, name).stored(), Recipe.model_validate_json(recipe)))


@functools.lru_cache(maxsize=1)
def stored_input(run: Path, name: str) -> StoredRows:
    """Footers are read once a worker: for each unit anew they would be quadratic in the units."""
    return input_of(run, name).stored()


def input_of(run: Path, name: str) -> StageRun:
    """The stage before; of a run folder on an object store, with what this worker's copy lacks."""
    reads = stages(run)[name].reads
    assert reads is not None
    if storage.store_of(run) is not None:
        reads.is_complete()
    return reads


def forget() -> None:
    """Let go of the stage that was done last: the next one's models need the memory."""
    for kept in (built, planned, stored_input):
        kept.cache_clear()
