"""The stages in their order, and a whole run over them.

    prompts -> render -> refine -> score -> filter -> pack -> dataset/

`score` and `filter` are both `synthgen filter`: scoring looks at every image once and is stored; the rules that follow decide, so a threshold
can change without scoring or rendering again.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import platform
from collections.abc import Collection, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from synthgen import runner
from synthgen.engines import accelerate, local
from synthgen.errors import RunError, StorageError
from synthgen.models.devices import use_threads
from synthgen.recipe import Recipe, chosen_backends
from synthgen.runner import StageRun, Unit

MODULES = {
    "prompts": "synthgen.prompts.stage",
    "render": "synthgen.render.stage",
    "refine": "synthgen.refine.stage",
    "score": "synthgen.filter.score",
    "filter": "synthgen.filter.stage",
    "pack": "synthgen.pack.stage",
}
VERBS = {"prompts": ("prompts",), "render": ("render",), "refine": ("refine",), "filter": ("score", "filter"), "pack": ("pack",)}
LOCK = "recipe.lock.yaml"
VERSIONED = ("torch", "diffusers", "transformers", "accelerate", "open_clip_torch", "segment-anything", "numpy", "pillow", "pyarrow", "scipy")


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

    Raises RunError for a run folder that is another recipe's or that holds foreign files, and whatever the settings of the stages `names` (those
    to be run) raise: a missing support folder is told now, not after the images are made. Stages from `redo` on may have been made otherwise.
    """
    _refuse_foreign(run)
    claimed = {name: stage for name, stage in stages(run).items() if stage.is_claimed() and name not in _from(redo)}
    asked = {*names, *claimed}
    for name, wanted in _settings(recipe):
        if name in claimed:
            runner.check(claimed[name], wanted)
        asked.discard(name)
        if not asked:
            return


def settings(recipe: Recipe, name: str) -> dict[str, Any]:
    """The fingerprinted settings of a stage: what its own module says they are, and digests of those of the stages before it.

    So when a stage is moved away and made again otherwise, no stage after it still seems to fit.
    """
    return next(found for each, found in _settings(recipe) if each == name)


def _settings(recipe: Recipe) -> Iterator[tuple[str, dict[str, Any]]]:
    before: dict[str, str] = {}
    for name, module in MODULES.items():
        own = importlib.import_module(module).settings(recipe)
        yield name, {**own, "stages_before": dict(before)}
        before[name] = runner.fingerprint(own)


def run_stage(recipe: Recipe, run: Path, name: str) -> Iterator[Progress]:
    """Do what is missing of one stage. If nothing is, no model is loaded.

    Raises RunError if the stage before is not complete, or if the folder belongs to other settings.
    """
    stage = stages(run)[name]
    if stage.reads is not None and not stage.reads.is_complete():
        missing = len(stage.reads.missing()) if stage.reads.is_claimed() else None
        how = "has not been run" if missing is None else f"has {missing} units to do"
        verb = next(verb for verb, names in VERBS.items() if stage.reads.name in names)
        raise RunError(f"{run}: the stage {stage.reads.name!r} {how}; run `synthgen {verb}` first, or `synthgen run` for all stages")
    if accelerate.rank() == 0:
        runner.claim(stage, settings(recipe, name), functools.partial(plan, recipe, stage))
        runner.sweep(stage)
    if accelerate.is_launched():
        accelerate.wait_for_all()
    everything = stage.units()
    missing_units = stage.missing()
    if accelerate.is_launched():
        accelerate.wait_for_all()  # ranks share out the same list: nobody starts before all have seen what is missing
    made, refused = stage.num_rows(), len(stage.rejected())
    done = len(everything) - len(missing_units)
    yield Progress(name, "", done, len(everything), made, refused)
    work = Work(recipe, run, name)
    finished = (
        accelerate.run_units(work, missing_units) if accelerate.is_launched() else local.run_units(work, missing_units, recipe.execution.workers)
    )
    try:
        for unit, more_made, more_refused in finished:
            done, made, refused = done + 1, made + more_made, refused + more_refused
            yield Progress(name, unit.name, done, len(everything), made, refused)
    finally:
        _built.cache_clear()  # the next stage's models need the memory
        _planned.cache_clear()
    if accelerate.is_launched():
        accelerate.wait_for_all(stage.is_complete)
        yield Progress(name, "", len(everything), len(everything), stage.num_rows(), len(stage.rejected()))
    if name == "pack" and accelerate.rank() == 0:
        finish(recipe, run)


class Work:
    """Does one unit of a stage in whatever process it finds itself. Models are loaded at the first unit."""

    def __init__(self, recipe: Recipe, run: Path, name: str) -> None:
        self.recipe, self.run, self.name = recipe, run, name

    def __call__(self, unit: Unit) -> tuple[int, int]:
        stage = stages(self.run)[self.name]
        processor = _built(self.recipe.model_dump_json(), self.run, self.name)
        return runner.run_unit(stage, unit, processor, self._rows(stage, unit))

    def _rows(self, stage: StageRun, unit: Unit) -> list[Any]:
        if stage.reads is None:
            return []
        module = importlib.import_module(MODULES[self.name])
        if hasattr(module, "plan"):
            return _planned(self.recipe.model_dump_json(), self.run, self.name)[unit.name]
        return stage.reads.rows(unit.start, unit.stop)


@functools.lru_cache(maxsize=1)
def _built(recipe: str, run: Path, name: str) -> Any:
    settings = Recipe.model_validate_json(recipe)
    if accelerate.is_launched() and settings.execution.device == "auto":
        settings = settings.model_copy(update={"execution": settings.execution.model_copy(update={"device": accelerate.device()})})
    use_threads(settings.execution)
    return importlib.import_module(MODULES[name]).build(settings, run)


@functools.lru_cache(maxsize=1)
def _planned(recipe: str, run: Path, name: str) -> dict[str, list[Any]]:
    reads = stages(run)[name].reads
    assert reads is not None
    return dict(importlib.import_module(MODULES[name]).plan(reads.rows(), Recipe.model_validate_json(recipe)))


def plan(recipe: Recipe, stage: StageRun) -> list[Unit]:
    """Units by count: the stage's own plan, one unit if it must see all rows, else `execution.unit_rows` rows a unit."""
    module = importlib.import_module(MODULES[stage.name])
    if stage.reads is None:
        return [Unit("00000", 0, 0)]
    if hasattr(module, "plan"):
        units = []
        position = 0
        for name, rows in module.plan(stage.reads.rows(), recipe):
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
    return finish_dataset(recipe, run, found["pack"].rows(), found["filter"].rows(), counts(recipe, run))


def counts(recipe: Recipe, run: Path) -> Any:
    """The totals of a run so far, as the card tells them."""
    from synthgen.pack.counts import RunCounts
    from synthgen.pack.models_used import model_use

    begun = {name: stage for name, stage in stages(run).items() if stage.is_claimed()}
    return RunCounts(
        made={name: stage.num_rows() for name, stage in begun.items()},
        rejected={name: stage.reasons() for name, stage in begun.items()},
        seconds={name: runner.seconds(stage) for name, stage in begun.items()},
        models=tuple(model_use(role, config) for role, config in chosen_backends(recipe).items() if role != "prompt_source"),
    )


def write_lock(recipe: Recipe, run: Path) -> None:
    """The whole recipe as run, defaults filled in, with the versions that made it. Written again only if the recipe is another one: `check_claim`
    has passed it, so it tells the finished stages too."""
    path = run / LOCK
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


def redo(run: Path, name: str) -> list[Path]:
    """Set a stage and all that follow aside, dataset included. Returns where the old results lie now. Of several ranks the first does it."""
    if accelerate.rank() > 0:
        return []
    later = [stages(run)[each] for each in _from(name)]
    moved = [runner.set_aside(stage) for stage in reversed([*later, StageRun("dataset", run / "dataset", later[0].gives, None)])]
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
    ours = {*MODULES, "dataset", LOCK}
    try:
        names = sorted(entry.name for entry in run.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"{run}: cannot be a run folder ({error.strerror}); choose another place with --runs") from error
    for name in names:
        if not name.startswith(".") and name.partition(".old-")[0] not in ours:
            raise RunError(f"{run}: {name} is not part of this run; move it away or choose another run folder (--run)")
