"""What `synthgen doctor --try` has measured on this machine, and for which recipes it holds: the plan prefers it to
arithmetic.

It holds for every recipe that has the same backends with the same options, image size and execution settings on the
same device, however many images it asks for.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from segkit.documents import read_json
from synthgen.backends import check_options
from synthgen.errors import InputError, SynthgenError
from synthgen.files import write_text
from synthgen.models.used import used_parts
from synthgen.planning.machine import Machine
from synthgen.recipe import Recipe
from synthgen.records import digest_of

BY_IMAGE = ("render", "refine", "score")  # stages whose time grows with the images
_SPEED = (
    "device", "dtype", "batch_size", "num_threads", "offload", "quantise", "attention", "compile", "channels_last"
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """One try. GB are 2^30 bytes, as torch and the event log have them."""

    at: str  # 2026-11-27
    device: str
    seconds: dict[str, float]  # stage of BY_IMAGE -> of an image, without loading
    loading_s: dict[str, float]  # stage -> what its first unit took beside that: loading, warming up
    gpu_gb: dict[str, float]  # stage -> the most that it held; empty without a GPU
    memory_gb: float  # the most that the process held of the machine's

    @property
    def image_s(self) -> float:
        """Of one image, over all stages that were measured."""
        return sum(self.seconds.values())

    @property
    def is_whole(self) -> bool:
        """Whether every stage whose time grows with the images was measured."""
        return set(self.seconds) == set(BY_IMAGE)


def device_name(recipe: Recipe, here: Machine) -> str:
    """The device that a worker would take."""
    if here.gpus and not recipe.execution.device.startswith("cpu"):
        return here.gpus[0].name
    return f"CPU of {here.cores} cores, {here.system}"


def save(measured: Measured, recipe: Recipe, here: Machine) -> Path:
    """Keep it for later plans. Raises StorageError if the cache cannot be written to."""
    path = _path(recipe, here)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(dataclasses.asdict(measured), indent=1) + "\n", path)
    return path


def find(recipe: Recipe, here: Machine) -> Measured | None:
    """What was measured for such a recipe on such a machine; None if nothing was, or if it cannot be read."""
    try:
        path = _path(recipe, here)
        return TypeAdapter(Measured).validate_python(read_json(path, InputError)) if path.is_file() else None
    except (SynthgenError, ValidationError):
        return None


def _path(recipe: Recipe, here: Machine) -> Path:
    execution = recipe.execution.model_dump(mode="json")
    state: dict[str, Any] = {
        "parts": [
            (what, role, config["name"], check_options(role, config).model_dump(mode="json"))
            for what, role, config in used_parts(recipe)
            if role != "prompt_source"
        ],
        "size": (recipe.render.height_px, recipe.render.width_px),
        "execution": {name: execution[name] for name in _SPEED},
        "device": device_name(recipe, here),
    }
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "synthgen" / "tries" / f"{digest_of(json.dumps(state, sort_keys=True).encode())}.json"
