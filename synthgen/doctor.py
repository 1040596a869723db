"""What is installed, which weights and GPUs are there, and which recipes would run.

Nothing is downloaded and no model is loaded.

A token is reported as there or not there; it is never read out.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from synthgen import lock, stages
from synthgen.backends import check_options, find
from synthgen.errors import SynthgenError
from synthgen.models.provenance import unasked
from synthgen.models.weights import MINI_PREFIX, resolve
from synthgen.recipe import Recipe, chosen_backends, read_recipe, shipped_recipes

OPTIONAL = ("duckdb", "mlcroissant", "pycocotools", "ray", "wids", "fiftyone", "c2pa-python")
_MODEL_KEYS = ("model", "controlnet")


@dataclasses.dataclass(frozen=True, slots=True)
class Gpu:
    """One CUDA device, or Apple's."""

    name: str
    memory_gib: float


@dataclasses.dataclass(frozen=True, slots=True)
class Machine:
    """The machine and what is installed on it."""

    system: str
    python: str
    cores: int
    free_disk_gib: float
    gpus: tuple[Gpu, ...]
    packages: dict[str, str]  # name -> version, "" for what is not installed
    hub_token: bool  # whether one is set, by environment or login
    hub_offline: bool
    hub_models: tuple[str, ...]  # in the local cache
    minis: dict[str, float]  # the package's own weights, name -> MiB


@dataclasses.dataclass(frozen=True, slots=True)
class RecipeCheck:
    """Whether a recipe would run here: it would if nothing is `missing`; `notes` are worth knowing."""

    name: str
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def would_run(self) -> bool:
        return not self.missing


def machine() -> Machine:
    """Look at the machine. torch is imported for its devices."""
    packages = {name: _version(name) for name in ("synthgen-seg", *lock.VERSIONED, *OPTIONAL)}
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        free_disk_gib=round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
        gpus=_gpus(),
        packages=packages,
        hub_token=_has_token(),
        hub_offline=os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"),
        hub_models=_hub_models(),
        minis=_minis(),
    )


def check_recipes(here: Machine, names: tuple[str, ...] = ()) -> list[RecipeCheck]:
    """Check the shipped recipes, or those that are named (paths too).

    One that cannot be read is missing its own mending.
    """
    found = []
    for name in names or tuple(shipped_recipes()):
        try:
            recipe = read_recipe(name)
        except SynthgenError as error:
            found.append(RecipeCheck(name, (str(error),), ()))
            continue
        found.append(check_recipe(recipe, here, name))
    return found


def check_recipe(recipe: Recipe, here: Machine, name: str = "") -> RecipeCheck:
    """What a run would stumble over: backends, packages, weights, label space, support set, prompts, photographs."""
    missing: dict[str, None] = {}  # a set that keeps its order
    notes: dict[str, None] = {}
    for role, config in _used_backends(recipe):
        try:
            find(role, str(config["name"]))
            models = list(_models(check_options(role, config).model_dump()))
        except SynthgenError as error:
            missing[str(error)] = None
            continue
        for model in models:
            _check_model(model, here, missing, notes)
    for module in stages.modules().values():
        try:
            with unasked(recipe.models):
                module.settings(recipe)
        except SynthgenError as error:
            missing[str(error)] = None
    return RecipeCheck(name or recipe.name, tuple(missing), tuple(notes))


def lines(here: Machine, checks: list[RecipeCheck]) -> list[str]:
    """The whole as plain text."""
    gpus = ", ".join(f"{gpu.name} {gpu.memory_gib:g} GiB" if gpu.memory_gib else gpu.name for gpu in here.gpus)
    installed = ", ".join(f"{name} {version}" for name, version in here.packages.items() if version)
    absent = ", ".join(name for name, version in here.packages.items() if not version)
    minis = ", ".join(f"{name} {size:g} MiB" for name, size in here.minis.items())
    token, offline = "set" if here.hub_token else "not set", ", offline" if here.hub_offline else ""
    told = [
        f"machine     {here.system}, {here.cores} cores, {here.free_disk_gib:g} GiB of disk free, Python {here.python}",
        f"GPU         {gpus or 'none: the mini models run anyway, models of the Hub are slow'}",
        f"installed   {installed}",
        f"absent      {absent or 'nothing'}",
        f"minis       {minis or 'none: train them with python -m synthgen.minis.train'}",
        f"Hub         token {token}{offline}; cached: {', '.join(here.hub_models) or 'no model'}",
        "",
    ]
    for check in checks:
        told.append(
            f"{check.name}: {'would run' if check.would_run else f'would not run, {len(check.missing)} missing'}"
        )
        told += [f"  missing: {each}" for each in check.missing]
        told += [f"  note: {each}" for each in check.notes]
    return told


def _used_backends(recipe: Recipe) -> Iterator[tuple[str, dict[str, Any]]]:
    for role, config in chosen_backends(recipe).items():
        if role == "mask_decoder" and not recipe.refine.sabr.enabled:
            continue
        if role == "text_encoder" and recipe.prompts.source.name == "images":
            continue  # photographs have no text to embed
        yield role, config


def _check_model(model: str, here: Machine, missing: dict[str, None], notes: dict[str, None]) -> None:
    try:
        place = resolve(model)
    except SynthgenError as error:
        missing[str(error)] = None
        return
    if isinstance(place, Path):
        return
    if place not in here.hub_models:
        if here.hub_offline:
            missing[
                f"{place}: not in the local cache, and HF_HUB_OFFLINE is set; download it once, or give a local folder"
            ] = None
        else:
            gated = "" if here.hub_token else "; if it is gated, accept its licence on the Hub and set HF_TOKEN first"
            notes[f"{place}: will be downloaded{gated}"] = None
    if not here.gpus:
        notes["no GPU here: models of the Hub are slow on a CPU"] = None


def _models(options: Any) -> Iterator[str]:
    if isinstance(options, dict):
        yield from (options[key] for key in _MODEL_KEYS if isinstance(options.get(key), str) and options[key])
        options = list(options.values())
    if isinstance(options, (list, tuple)):
        for value in options:
            yield from _models(value)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _gpus() -> tuple[Gpu, ...]:
    import torch

    if torch.cuda.is_available():
        found = (torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count()))
        return tuple(Gpu(device.name, round(device.total_memory / 2**30, 1)) for device in found)
    return (Gpu("Apple GPU (mps)", 0.0),) if torch.backends.mps.is_available() else ()


def _has_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None


def _hub_models() -> tuple[str, ...]:
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        return tuple(
            sorted(repository.repo_id for repository in scan_cache_dir().repos if repository.repo_type == "model")
        )
    except (CacheNotFound, OSError, ValueError):  # a fresh machine has no cache yet
        return ()


def _minis() -> dict[str, float]:
    from synthgen.models import weights

    folder = Path(weights.__file__).resolve().parent.parent / "minis" / "weights"
    sizes = {
        path.name: sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        for path in sorted(folder.glob("*"))
        if path.is_dir()
    }
    return {f"{MINI_PREFIX}{name}": round(size / 2**20, 1) for name, size in sizes.items()}
