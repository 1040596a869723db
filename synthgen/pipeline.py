"""A whole run over the stages (synthgen/stages.py), and one stage of it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Iterator
from pathlib import Path

from synthgen import again, claims, leases, lock, ownership, runner, storage, worker
from synthgen.engines import accelerate, events
from synthgen.engines.teams import Team, team_of
from synthgen.errors import RunError, StorageError, SynthgenError
from synthgen.models.provenance import pinned
from synthgen.recipe import Recipe
from synthgen.rows import give_memory_back
from synthgen.runner import StageRun, Unit
from synthgen.stages import all_settings, modules, names, names_from, settings, stages


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """One step of news: a unit of a stage has finished, or (unit == "") how a stage stands at its start or end."""

    stage: str
    unit: str
    done_units: int
    num_units: int
    made: int  # rows of the whole stage so far
    refused: int


def begin(recipe: Recipe, run: Path, wanted: Collection[str] = (), redo: str = "") -> tuple[Recipe, list[Path]]:
    """Claim a run folder: the recipe with its models pinned, and where old results lie now if `redo` names a stage.

    Everything that can be refused is refused first, before anything is loaded, renamed or written: a folder that is
    another recipe's or holds foreign files, and whatever the settings of the stages `wanted` (all for ()) raise, so
    that a missing support folder is told now and not after the images are made.
    """
    wanted = wanted or names()
    _refuse_foreign(run)
    locked = lock.read_lock(run)
    with pinned((locked or recipe).models):
        check_claim(recipe, run, wanted, redo)
    if accelerate.is_launched() and accelerate.rank() > 0:
        accelerate.wait_for_all()  # the first rank takes the folder
        return lock.take(recipe, run, redo), []
    pinned_recipe = lock.take(recipe, run, redo)
    moved = again.redo(run, redo) if redo else []
    if accelerate.is_launched():
        accelerate.wait_for_all()
    return pinned_recipe, moved


def check_claim(recipe: Recipe, run: Path, wanted: Collection[str] = (), redo: str = "") -> None:
    """Raise RunError if a stage of the run folder was made with other settings, and whatever the settings of the stages
    `wanted` raise. Stages from `redo` on may have been made otherwise.
    """
    _refuse_foreign(run)
    claimed = {n: stage for n, stage in stages(run).items() if stage.is_claimed() and n not in names_from(redo)}
    asked = {*wanted, *claimed}
    for name, current in all_settings(recipe):
        if name in claimed:
            claims.check(claimed[name], current)
        asked.discard(name)
        if not asked:
            return


def retry_failed(recipe: Recipe, run: Path) -> tuple[Recipe, list[Path]]:
    """Plan the failed rows again (see `again.plan_failed`): the pinned recipe, and where old results lie now.

    Raises RunError, before anything is changed, if the recipe is not the run's.
    """
    pinned_recipe, _ = begin(recipe, run)
    return pinned_recipe, again.plan_failed(pinned_recipe, run)


def run_stage(recipe: Recipe, run: Path, name: str, log: bool = False) -> Iterator[Progress]:
    """Do what is missing of one stage. If nothing is, no model is loaded. `log` writes finished units to the run's
    event
    log, too.

    Several launches may work on one run folder: what one of them has taken the others leave. Of several ranks the first
    tells how all of them stand, the others tell their own share. Raises RunError if the stage before is not complete,
    or if the folder belongs to other settings.
    """
    give_memory_back()
    stage, team = stages(run)[name], team_of(recipe.execution)
    _require_complete(stage.reads, run)
    if team.leads:
        with pinned(recipe.models):
            claims.claim(stage, settings(recipe, name), functools.partial(plan, recipe, stage))
        leases.sweep(stage.folder)
        again.plan_rows_made_since(recipe, stage)
    team.wait()
    storage.refresh(stage.folder / runner.CLAIM)  # the first rank may have planned it on another machine
    missing = team.begin(stage, stage.missing())
    yield Progress(name, "", *team.standing())
    owner = claims.fingerprint(stage.claim()["settings"]) if missing else ""
    work = worker.Work(recipe, run, name, owner, log)
    try:
        yield from _do(stage, team, work, missing)
    finally:
        worker.forget()
        _publish_events(run)
    storage.fetch_units(stage.folder, [unit.name for unit in stage.units()])  # what others have done
    for standing in team.rest():
        yield Progress(name, "", *standing)
    finish = getattr(modules()[name], "finish", None)
    if finish is not None and team.leads:
        with pinned(recipe.models):
            finish(recipe, run, stage, card_facts(run))


def _do(stage: StageRun, team: Team, work: worker.Work, missing: list[Unit]) -> Iterator[Progress]:
    """Every missing unit, those that others had taken and given up at the end."""
    while missing:
        left = []
        for unit, made, refused in team.run_units(work, missing, work.again):
            if (made, refused) == worker.LEFT:
                left.append(unit)
                continue
            team.add(made, refused)
            yield Progress(stage.name, unit.name, *team.standing())
        missing = left
        given_up = leases.wait_for_others(stage.folder, [unit.name for unit in left], stage.has)
        work.again, work.forced = True, frozenset(given_up)


def _require_complete(reads: StageRun | None, run: Path) -> None:
    if reads is None or reads.is_complete():
        return
    missing = len(reads.missing()) if reads.is_claimed() else None
    how = "has not been run" if missing is None else f"has {missing} units to do"
    verb = modules()[reads.name].VERB
    raise RunError(
        f"{run}: the stage {reads.name!r} {how}; run `synthgen {verb}` first, or `synthgen run` for all stages"
    )


def plan(recipe: Recipe, stage: StageRun) -> list[Unit]:
    """Units by count: the stage's own plan, one unit if it must see all rows, else `execution.unit_rows` rows a
    unit."""
    module = modules()[stage.name]
    if stage.reads is None:
        return [Unit("00000", 0, 0)]
    if hasattr(module, "plan"):
        units = []
        position = 0
        for name, rows in module.plan(stage.reads.stored(), recipe):
            units.append(Unit(name, position, position + len(rows)))
            position += len(rows)
        return units
    total = stage.reads.num_rows()
    size = max(1, total) if module.SINGLE_UNIT else recipe.execution.unit_rows
    starts = range(0, max(1, total), size)
    return [Unit(f"{number:05d}", start, min(total, start + size)) for number, start in enumerate(starts)]


def card_facts(run: Path) -> dict[str, object]:
    """The totals of a run so far, by field of `pack.counts.RunCounts`: rows made, reasons, seconds, and what the stages
    add of their own.
    """
    begun = {name: stage for name, stage in stages(run).items() if stage.is_claimed()}
    facts: dict[str, object] = {
        "made": {name: stage.num_rows() for name, stage in begun.items()},
        "rejected": {name: stage.reasons() for name, stage in begun.items()},
        "seconds": {name: runner.seconds(stage) for name, stage in begun.items()},
    }
    for name, stage in begun.items():
        own = getattr(modules()[name], "card_facts", None)
        facts |= own(stage) if own else {}
    return facts


def give_up(run: Path) -> None:
    """After an error: if no stage has come to anything, the folder's claim binds nobody."""
    if accelerate.rank() == 0 and not any(
        stage.is_claimed() and claims.has_begun(stage) for stage in stages(run).values()
    ):
        try:
            lock.release(run)
        except SynthgenError:  # why the launch fails is being told already
            return


def _refuse_foreign(run: Path) -> None:
    """Raise RunError if a run folder holds what no run has written: it may be somebody's folder, taken by mistake."""
    ours = {*names(), ownership.DATASET, lock.LOCK, events.FOLDER}
    try:
        there = storage.names(run)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(
            f"{run}: cannot be a run folder ({error.strerror}); choose another place with --runs"
        ) from error
    for name in there:
        if not name.startswith(".") and name.partition(".old-")[0] not in ours:
            raise RunError(f"{run}: {name} is not part of this run; move it away or choose another run folder (--run)")
    ownership.require_dataset(run / ownership.DATASET)
    lock.read_lock(run)  # refuses one that is not ours


def _publish_events(run: Path) -> None:
    """The logs of this process and its workers, to a run folder on an object store: at the end of each stage, since
    objects cannot be appended to.
    """
    if storage.store_of(run) is not None and (run / events.FOLDER).is_dir():
        for path in (run / events.FOLDER).iterdir():
            storage.publish(path)
