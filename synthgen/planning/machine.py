"""This machine: processors, memory of its GPUs, disk, packages, and the weights that are there.

Nothing is downloaded and no model is loaded. A token is reported as there or not there; it is never read out.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
from importlib import metadata
from pathlib import Path

from segkit.cores import usable_cores
from synthgen import lock
from synthgen.models.hub_cache import missing_in
from synthgen.models.weights import MINI_PREFIX

OPTIONAL = ("duckdb", "mlcroissant", "pycocotools", "ray", "wids", "fiftyone", "c2pa-python", "pillow-heif")


@dataclasses.dataclass(frozen=True, slots=True)
class Gpu:
    """One CUDA device, or Apple's."""

    name: str
    memory_gib: float


@dataclasses.dataclass(frozen=True, slots=True)
class Half:
    """A model of which the cache has a part."""

    missing: tuple[str, ...]  # "part: what", see synthgen/models/hub_cache.py
    cached_gb: float  # 10^9 bytes that are there


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
    hub_halves: dict[str, Half] = dataclasses.field(default_factory=dict)  # of hub_models, those that are not whole


def machine() -> Machine:
    """Look at the machine. torch is imported for its devices."""
    packages = {name: _version(name) for name in ("synthgen-seg", *lock.VERSIONED, *OPTIONAL)}
    models, halves = _hub_models()
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        cores=usable_cores(),
        free_disk_gib=round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
        gpus=_gpus(),
        packages=packages,
        hub_token=_has_token(),
        hub_offline=os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"),
        hub_models=models,
        minis=_minis(),
        hub_halves=halves,
    )


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


def _hub_models() -> tuple[tuple[str, ...], dict[str, Half]]:
    """Models in the cache, and of those the ones that are not whole, by the snapshot that main names."""
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        cached = scan_cache_dir(constants.HF_HUB_CACHE).repos
        found = sorted(((repo.repo_id, repo) for repo in cached if repo.repo_type == "model"), key=lambda item: item[0])
    except (CacheNotFound, OSError, ValueError):  # a fresh machine has no cache yet
        return (), {}
    halves = {}
    for name, repository in found:
        snapshots = [revision for revision in repository.revisions if "main" in revision.refs]
        for revision in snapshots or repository.revisions:
            missing = missing_in(revision.snapshot_path)
            if missing:
                halves[name] = Half(missing, repository.size_on_disk / 1e9)
    return tuple(name for name, _ in found), halves


def _minis() -> dict[str, float]:
    from synthgen.models import weights

    folder = Path(weights.__file__).resolve().parent.parent / "minis" / "weights"
    sizes = {
        path.name: sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        for path in sorted(folder.glob("*"))
        if path.is_dir()
    }
    return {f"{MINI_PREFIX}{name}": round(size / 2**20, 1) for name, size in sizes.items()}
