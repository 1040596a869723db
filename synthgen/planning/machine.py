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

from synthgen import lock
from synthgen.models.weights import MINI_PREFIX

OPTIONAL = ("duckdb", "mlcroissant", "pycocotools", "ray", "wids", "fiftyone", "c2pa-python", "pillow-heif")


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
