"""Parts of a run that are made again: a stage and all that follow (`--redo`), or the samples that failed (`retry`)."""

from __future__ import annotations

from pathlib import Path

from synthgen import claims, ownership
from synthgen.engines import accelerate
from synthgen.recipe import Recipe
from synthgen.records import Rejected
from synthgen.runner import FAILED, StageRun, Unit
from synthgen.stages import modules, names_from, stages


def redo(run: Path, name: str) -> list[Path]:
    """Set a stage and all that follow aside, dataset included. Returns where the old results lie now.

    Of several ranks the first does it. Raises RunError, before anything is renamed, for a folder of one of these names
    that synthgen has not made.
    """
    if accelerate.rank() > 0:
        return []
    every = stages(run)
    later = [every[stage] for stage in names_from(name)]
    for stage in later:
        ownership.require_stage(stage)
    dataset = StageRun("dataset", run / ownership.DATASET, later[0].gives, None)
    ownership.require_dataset(dataset.folder)
    moved = [claims.set_aside(stage) for stage in reversed([*later, dataset])]
    return [path for path in moved if path is not None]


def failed(run: Path) -> dict[str, list[Rejected]]:
    """stage -> the rows that raised an error each time, if any."""
    every = stages(run)
    claimed = [name for name, module in modules().items() if module.BY_ROW and every[name].is_claimed()]
    rows = {name: [row for row in every[name].rejected() if row.reason == FAILED] for name in claimed}
    return {name: some for name, some in rows.items() if some}


def plan_failed(recipe: Recipe, run: Path) -> list[Path]:
    """Plan the failed rows again, as units behind those that are there, and set aside the stages that must see all rows
    if they are begun.

    Running the stages then does these rows alone, and the dataset is the one of a run in which nothing failed. Returns
    where old results lie now. Of several ranks the first does it.
    """
    if accelerate.rank() > 0:
        return []
    rows = failed(run)
    whole = next(n for n, stage in stages(run).items() if not modules()[n].BY_ROW and stage.reads is not None)
    # first: a kill before the next lines must not leave them seemingly up to date
    aside = redo(run, whole) if rows else []
    for name, some in rows.items():
        stage = stages(run)[name]
        planned = [unit for unit in stage.units() if unit.keys]
        number = len(planned)
        # what an earlier retry has planned and a kill has left undone is made by its own units
        waiting = {key for unit in planned if not stage.is_done(unit) for key in unit.keys}
        keys = sorted({row.parent for row in some} - waiting)
        size = recipe.execution.unit_rows
        groups = [tuple(keys[start : start + size]) for start in range(0, len(keys), size)]
        claims.extend(stage, [Unit(f"retry-{number + place:05d}", 0, 0, group) for place, group in enumerate(groups)])
    return aside


def plan_rows_made_since(recipe: Recipe, stage: StageRun) -> None:
    """Append units for rows that the stage before has made since this one was planned (by `plan_failed`)."""
    if stage.reads is None or not modules()[stage.name].BY_ROW:
        return
    units = stage.units()
    planned, total = max(unit.stop for unit in units), stage.reads.num_rows()
    if planned < total:
        size = recipe.execution.unit_rows
        number = sum(1 for unit in units if not unit.keys)
        starts = range(planned, total, size)
        more = [Unit(f"{number + place:05d}", start, min(total, start + size)) for place, start in enumerate(starts)]
        claims.extend(stage, more)
