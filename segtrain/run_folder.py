"""The output folder of a training: whose it is, and where to go on.

out/settings.json        the settings that change the weights; written first, claims the folder
out/checkpoint.pt        network, optimiser, step; removed when the model is there
out/tensorboard/         scalars
out/validation.json      scores of the finished model, if a validation set is given
out/model.safetensors    the model
out/config.json          written last: the training is finished
"""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
from pathlib import Path
from typing import Any

import torch

from segtrain.errors import RunError
from segtrain.files import write_whole


@dataclasses.dataclass(slots=True)
class Checkpoint:
    """The state after `step` steps. No random state is needed: every draw is a function of (seed, step)."""

    step: int
    network: dict[str, Any]
    optimiser: dict[str, Any]
    drawn: list[int]


def claim(folder: Path, settings: dict[str, Any]) -> None:
    """Make the folder this training's own. Raises RunError, naming a setting, if it is another's."""
    path = folder / "settings.json"
    # Through JSON, so that tuples and lists compare equal.
    settings = json.loads(json.dumps(settings))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        foreign = not path.is_file() and any(file.name != "settings.json.tmp" for file in folder.iterdir())
    except OSError as error:
        raise RunError(f"{folder}: cannot be used as a folder: {error.strerror}") from error
    if foreign:
        raise RunError(f"{folder}: holds files, but no settings.json of a training: choose a new or an empty folder")
    if not path.is_file():
        write_whole(path, json.dumps(settings, indent=2).encode())
        return
    try:
        theirs = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read as JSON: {error}") from error
    difference = _first_difference(theirs, settings, "")
    if difference:
        raise RunError(
            f"{folder}: belongs to a training with {difference}: choose another folder, or train with its "
            "settings to go on"
        )


def is_finished(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Raises RunError if the disk is full."""
    buffer = io.BytesIO()
    torch.save({field.name: getattr(checkpoint, field.name) for field in dataclasses.fields(checkpoint)}, buffer)
    write_whole(folder / "checkpoint.pt", buffer.getvalue())


def read_checkpoint(folder: Path, device: torch.device) -> Checkpoint | None:
    """None if there is none yet. Raises RunError at a damaged one."""
    path = folder / "checkpoint.pt"
    if not path.is_file():
        return None
    try:
        return Checkpoint(**torch.load(path, map_location=device, weights_only=True))
    except (OSError, EOFError, RuntimeError, TypeError, pickle.UnpicklingError) as error:
        raise RunError(f"{path}: damaged ({type(error).__name__}): remove this file to train from the start") from error


def remove_checkpoint(folder: Path) -> None:
    """What a finished model no longer needs: the optimiser's state is twice its size."""
    (folder / "checkpoint.pt").unlink(missing_ok=True)


def _first_difference(theirs: Any, ours: Any, name: str) -> str:
    """The first setting that differs, as `name = theirs, not ours`; empty if none does."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in [*ours, *(k for k in theirs if k not in ours)]:
            found = _first_difference(theirs.get(key), ours.get(key), f"{name}.{key}" if name else key)
            if found:
                return found
        return ""
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for number, (left, right) in enumerate(zip(theirs, ours, strict=True)):
            found = _first_difference(left, right, f"{name}[{number}]")
            if found:
                return found
        return ""
    return "" if theirs == ours else f"{name} = {json.dumps(theirs)}, not {json.dumps(ours)}"
