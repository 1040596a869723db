"""The stages in their order, and a whole run over them.

    prompts -> render -> refine -> score -> filter -> pack -> dataset/

`score` and `filter` are both `synthgen filter`: scoring looks at every image once and is stored; the rules that follow
decide, so a threshold can change without scoring or rendering again.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
import platform
import time
from collections.abc import Collection, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from synthgen import leases, runner, storage
from synthgen.engines import accelerate, events, local, ray, retry
from synthgen.errors import RunError, StorageError
from synthgen.models.devices import use_threads
from synthgen.recipe import Recipe
from synthgen.records import Rejected
from synthgen.rows import StoredRows, give_memory_back
from synthgen.runner import FAILED, StageRun, Unit

MODULES = {
    "prompts": "synthgen.prompts.stage",
    "render": "synthgen.render.stage",
    "refine": "synthgen.refine.stage",
    "score": "synthgen.filter.score",
    "filter": "synthgen.filter.stage",
    "pack": "synthgen.pack.stage",
}
VERBS = {
    "prompts": ("prompts",),
    "render": ("render",),
    "refine": ("refine",),
    "filter": ("score", "filter"),
    "pack": ("pack",),
}
BY_ROW = ("render", "refine", "score")  # each row gives its own results, whatever the rows beside it
LOCK = "recipe.lock.yaml"
LEFT = (-1, -1)  # instead of counts: another process has taken the unit
VERSIONED = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "open_clip_torch",
    "segment-anything",
    "numpy",
    "pillow",
    "pyarrow",
    "scipy",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """One step of news: a unit of a stage has finished, or (unit == "") how a stage stands at its start or end."""

    stage: str
    unit: str
    done_units: int
    num_units: int
    made: int  # rows of the whole stage so far
    refused: int


def stages(run: Path) -> dict[str, StageRun]:
    """Every stage of a run folder, in order, whether it has begun or not."""
    found: dict[str, StageRun] = {}
    before: StageRun | None = None
    for name, path in MODULES.items():
        before = found[name] = StageRun(name, run / name, importlib.import_module(path).GIVES, before)
    return found


def check_claim(recipe: Recipe, run: Path, names: Collection[str] = (), redo: str = "") -> None:
    """Refuse what can be refused before anything is loaded or set aside.

    Raises RunError for a run folder that is another recipe's or that holds foreign files, and whatever the settings of
    the stages `names` (those to be run) raise: a missing support folder is told now, not after the images are made.
    Stages from `redo` on may have been made otherwise.
    """
    _refuse_foreign(run)
    claimed = {name: stage for name, stage in stages(run).items() if stage.is_claimed() and name not in _from(redo)}
    asked = {*names, *claimed}
    if not asked:
        return
    for name, wanted in _settings(recipe):
        if name in claimed:
            runner.check(claimed[name], wanted)
        asked.discard(name)
        if not asked:
            return


def settings(recipe: Recipe, name: str) -> dict[str, Any]:
    """The fingerprinted settings of a stage:

    what its own module says they are, and digests of those of the stages before it.

    So when a stage is moved away and made again otherwise, no stage after it still seems to fit.
    """
    return next(found for each, found in _settings(recipe) if each == name)


def _settings(recipe: Recipe) -> Iterator[tuple[str, dict[str, Any]]]:
    before: dict[str, str] = {}
    for name, module in MODULES.items():
        own = importlib.import_module(module).settings(recipe)
        yield name, {**own, "stages_before": dict(before)}
        before[name] = runner.fingerprint(own)


def run_stage(recipe: Recipe, run: Path, name: str, log: bool = False) -> Iterator[Progress]:
    """Do what is missing of one stage. If nothing is, no model is loaded.

    `log` writes finished units to the run's event log, too.

    Several launches may work on one run folder: what one of them has taken the others leave. Under `accelerate launch`
    rank 0 tells of all ranks, the others of their own share. Raises RunError if the stage before is not complete, or if
    the folder belongs to other settings.
    """
    give_memory_back()
    stage = stages(run)[name]
    if stage.reads is not None and not stage.reads.is_complete():
        missing = len(stage.reads.missing()) if stage.reads.is_claimed() else None
        how = "has not been run" if missing is None else f"has {missing} units to do"
        verb = next(verb for verb, names in VERBS.items() if stage.reads.name in names)
        raise RunError(
            f"{run}: the stage {stage.reads.name!r} {how}; run `synthgen {verb}` first, or `synthgen run` for "
            "all stages"
        )
    if accelerate.rank() == 0:
        runner.claim(stage, settings(recipe, name), functools.partial(plan, recipe, stage))
        leases.sweep(stage.folder)
        _plan_rows_made_since(recipe, stage)
    if accelerate.is_launched():
        accelerate.wait_for_all()
    storage.refresh(stage.folder / runner.CLAIM)  # the first rank may have planned it on another machine
    everything = stage.units()
    missing_units = stage.missing()
    if accelerate.is_launched():
        accelerate.wait_for_all()  # ranks share out the same list: nobody starts before all have seen what is missing
    made, refused = stage.num_rows(), stage.num_rejected()
    done = len(everything) - len(missing_units)
    yield Progress(name, "", done, len(everything), made, refused)
    owner = runner.fingerprint(stage.claim()["settings"]) if missing_units else ""
    work = Work(recipe, run, name, owner, log)
    ranks = _Ranks(stage, missing_units, made, refused)
    try:
        while missing_units:
            left = []
            for unit, more_made, more_refused in _units_by_engine(recipe, work, missing_units):
                if (more_made, more_refused) == LEFT:
                    left.append(unit)
                    continue
                done, made, refused = done + 1, made + more_made, refused + more_refused
                if accelerate.is_launched() and accelerate.rank() == 0:
                    yield Progress(name, unit.name, *ranks.now())
                else:
                    yield Progress(name, unit.name, done, len(everything), made, refused)
            missing_units = left
            given_up = leases.wait_for_others(stage.folder, [unit.name for unit in left], stage.has)
            work.again, work.forced = True, frozenset(given_up)
    finally:
        _built.cache_clear()  # the next stage's models need the memory
        _planned.cache_clear()
        _stored.cache_clear()
        _publish_events(run)
    storage.fetch_units(stage.folder, [unit.name for unit in everything])  # what others have done
    if accelerate.is_launched():
        while accelerate.rank() == 0 and not ranks.all_done():
            yield Progress(name, "", *ranks.now())
            time.sleep(accelerate.POLL_S)
        accelerate.wait_for_all(ranks.all_done)
        yield Progress(name, "", len(everything), len(everything), stage.num_rows(), stage.num_rejected())
    if name == "pack" and accelerate.rank() == 0:
        finish(recipe, run)


def _units_by_engine(recipe: Recipe, work: Work, units: list[Unit]) -> Iterator[tuple[Unit, int, int]]:
    execution = recipe.execution
    if accelerate.is_launched():
        return local.run_units(work, units, 1) if work.again else accelerate.run_units(work, units)
    if execution.engine == "ray":
        return ray.run_units(work, units, execution.ray, execution.device, execution.retries)
    return local.run_units(work, units, execution.workers, execution.retries)


class _Ranks:
    """Counts what all ranks have finished since this one looked first.

    A folder is listed once a second at most, a footer is read once.
    """

    EVERY_S = 1.0

    def __init__(self, stage: StageRun, missing: list[Unit], made: int, refused: int) -> None:
        self._stage = stage
        self._missing = {unit.name: unit for unit in missing}
        self._num_units = len(stage.units())
        self._made, self._refused = made, refused
        self._looked = -self.EVERY_S

    def now(self) -> tuple[int, int, int, int]:
        """Units done, units, rows made, rows refused."""
        if time.monotonic() - self._looked >= self.EVERY_S:
            storage.fetch_units(self._stage.folder, self._missing)
            with os.scandir(self._stage.folder) as entries:
                for name in [entry.name for entry in entries if entry.name in self._missing]:
                    made, refused = self._stage.counts(self._missing.pop(name))
                    self._made, self._refused = self._made + made, self._refused + refused
            self._looked = time.monotonic()
        return self._num_units - len(self._missing), self._num_units, self._made, self._refused

    def all_done(self) -> bool:
        """Whether every unit of the stage is there."""
        return self.now()[0] == self._num_units


class Work:
    """Does one unit of a stage in whatever process it finds itself. Models are loaded at the first unit.

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
        processor = _built(self.recipe.model_dump_json(), self.run, self.name)
        made, refused = retry.attempt(
            stage,
            unit,
            _Owned(processor, stage, self.owner),
            self._rows(stage, unit),
            retries=self.recipe.execution.retries,
            by_row=self.name in BY_ROW,
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
            return [row for row in _read_by(self.run, self.name).iter_rows() if row.key in wanted]
        module = importlib.import_module(MODULES[self.name])
        if hasattr(module, "plan"):
            return list(_planned(self.recipe.model_dump_json(), self.run, self.name)[unit.name])
        stored = _stored(self.run, self.name)
        return stored if module.SINGLE_UNIT else stored.rows(unit.start, unit.stop)


@functools.lru_cache(maxsize=1)
def _built(recipe: str, run: Path, name: str) -> Any:
    settings = Recipe.model_validate_json(recipe)
    if accelerate.is_launched() and settings.execution.device == "auto":
        settings = settings.model_copy(
            update={"execution": settings.execution.model_copy(update={"device": accelerate.device()})}
        )
    use_threads(settings.execution)
    return importlib.import_module(MODULES[name]).build(settings, run)


@functools.lru_cache(maxsize=1)
def _planned(recipe: str, run: Path, name: str) -> dict[str, Sequence[Any]]:
    return dict(
        importlib.import_module(MODULES[name]).plan(_read_by(run, name).stored(), Recipe.model_validate_json(recipe))
    )


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
        if _owner_of(self._stage, runner.stamp(self._stage.folder / runner.CLAIM)) != self._owner:
            raise RunError(
                f"{self._stage.folder}: another launch has taken this run folder for another recipe; use another "
                "run folder (--run)"
            )


@functools.lru_cache(maxsize=1)
def _owner_of(stage: StageRun, stamp: Any) -> str:
    """`stamp` changes with the file, so it is read only if it is another one."""
    return runner.fingerprint(stage.claim()["settings"])


@functools.lru_cache(maxsize=1)
def _stored(run: Path, name: str) -> StoredRows:
    """Footers are read once a worker: for each unit anew they would be quadratic in the units."""
    return _read_by(run, name).stored()


def _read_by(run: Path, name: str) -> StageRun:
    """The stage before; of a run folder on an object store, with what this worker's copy lacks."""
    reads = stages(run)[name].reads
    assert reads is not None
    if storage.store_of(run) is not None:
        reads.is_complete()
    return reads


def failed(run: Path) -> dict[str, list[Rejected]]:
    """stage -> the rows that raised an error each time, if any."""
    found = {
        name: [row for row in stages(run)[name].rejected() if row.reason == FAILED]
        for name in BY_ROW
        if stages(run)[name].is_claimed()
    }
    return {name: rows for name, rows in found.items() if rows}


def retry_failed(recipe: Recipe, run: Path) -> list[Path]:
    """Plan the failed rows again, as units behind those that are there, and set aside the stages that must see all rows
    if they are begun.

    Running the stages then does these rows alone, and the dataset is the one of a run in which nothing failed. Returns
    where old results lie now. Of several ranks the first does it. Raises RunError, before anything is changed, if the
    recipe is not the run's.
    """
    if accelerate.rank() > 0:
        return []
    check_claim(recipe, run)
    again = failed(run)
    whole = next(name for name, stage in stages(run).items() if name not in BY_ROW and stage.reads is not None)
    # first: a kill before the next lines must not leave them seemingly up to date
    aside = redo(run, whole) if again else []
    for name, rows in again.items():
        stage = stages(run)[name]
        number = sum(1 for unit in stage.units() if unit.keys)
        keys = sorted({row.parent for row in rows})
        size = recipe.execution.unit_rows
        groups = [tuple(keys[start : start + size]) for start in range(0, len(keys), size)]
        runner.extend(stage, [Unit(f"retry-{number + place:05d}", 0, 0, group) for place, group in enumerate(groups)])
    return aside


def _plan_rows_made_since(recipe: Recipe, stage: StageRun) -> None:
    """Append units for rows that the stage before has made since this one was planned (by `retry_failed`)."""
    if stage.name not in BY_ROW or stage.reads is None:
        return
    units = stage.units()
    planned, total = max(unit.stop for unit in units), stage.reads.num_rows()
    if planned < total:
        size = recipe.execution.unit_rows
        number = sum(1 for unit in units if not unit.keys)
        starts = range(planned, total, size)
        runner.extend(
            stage,
            [Unit(f"{number + place:05d}", start, min(total, start + size)) for place, start in enumerate(starts)],
        )


def plan(recipe: Recipe, stage: StageRun) -> list[Unit]:
    """Units by count: the stage's own plan, one unit if it must see all rows, else `execution.unit_rows` rows a unit."""
    module = importlib.import_module(MODULES[stage.name])
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


def finish(recipe: Recipe, run: Path) -> Path:
    """Shards, contact sheet, card and index into `dataset/`; the index is written last."""
    from synthgen.pack.finish import finish as finish_dataset

    found = stages(run)
    return finish_dataset(recipe, run, found["pack"].stored(), found["filter"].stored(), counts(recipe, run))


def counts(recipe: Recipe, run: Path) -> Any:
    """The totals of a run so far, as the card tells them."""
    from synthgen.pack.counts import MaskRate, RunCounts
    from synthgen.pack.models_used import models_used
    from synthgen.refine.class_rates import rates_of

    begun = {name: stage for name, stage in stages(run).items() if stage.is_claimed()}
    return RunCounts(
        made={name: stage.num_rows() for name, stage in begun.items()},
        rejected={name: stage.reasons() for name, stage in begun.items()},
        seconds={name: runner.seconds(stage) for name, stage in begun.items()},
        models=models_used(recipe),
        mask_rates=tuple(
            MaskRate(k, found.num_regions, found.keep_rate, found.fill_rate, found.return_rate)
            for k, found in rates_of(begun["refine"]).items()
        )
        if "refine" in begun
        else (),
    )


def write_lock(recipe: Recipe, run: Path) -> None:
    """The whole recipe as run, defaults filled in, with the versions that made it. Written again only if the recipe is
    another one: `check_claim` has passed it, so it tells the finished stages too."""
    path = run / LOCK
    storage.refresh(path)
    if _locked(path) == recipe.model_dump(mode="json"):
        return
    versions = {"python": platform.python_version()}
    for package in ("synthgen-seg", *VERSIONED):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    body = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    notes = "".join(f"# {package} {version}\n" for package, version in versions.items())
    runner.write_text(f"# The recipe as it was run. `synthgen run {LOCK}` repeats it.\n{notes}{body}", path)
    storage.publish(path)


def _publish_events(run: Path) -> None:
    """The logs of this process and its workers, to a run folder on an object store:

    at the end of each stage, since objects cannot be appended to.
    """
    if storage.store_of(run) is not None and (run / events.FOLDER).is_dir():
        for path in (run / events.FOLDER).iterdir():
            storage.publish(path)


def redo(run: Path, name: str) -> list[Path]:
    """Set a stage and all that follow aside, dataset included. Returns where the old results lie now.

    Of several ranks the first does it.
    """
    if accelerate.rank() > 0:
        return []
    later = [stages(run)[each] for each in _from(name)]
    moved = [
        runner.set_aside(stage)
        for stage in reversed([*later, StageRun("dataset", run / "dataset", later[0].gives, None)])
    ]
    return [path for path in moved if path is not None]


def _from(name: str) -> tuple[str, ...]:
    """A stage and all that follow; none for ""."""
    names = tuple(MODULES)
    return names[names.index(name) :] if name else ()


def _locked(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


def _refuse_foreign(run: Path) -> None:
    """Raise RunError if a run folder holds what no run has written: it may be somebody's folder, taken by mistake."""
    ours = {*MODULES, "dataset", LOCK, events.FOLDER}
    try:
        names = storage.names(run)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(
            f"{run}: cannot be a run folder ({error.strerror}); choose another place with --runs"
        ) from error
    for name in names:
        if not name.startswith(".") and name.partition(".old-")[0] not in ours:
            raise RunError(f"{run}: {name} is not part of this run; move it away or choose another run folder (--run)")
