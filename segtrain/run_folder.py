"""The output folder of a training: whose it is, and where to go on.

out/settings.json        the settings that change the weights; the mark of a training: without it the folder is refused
out/.lock                held while a training writes here; gone when it has ended
out/checkpoint.pt        network, optimiser, step, state of the method; removed when the model is there
out/tensorboard/         scalars, and pictures of methods that make some
out/pictures/            the same pictures as PNG, NAME-STEP.png
out/validation.json      scores of the finished model, if a validation set is given
out/best/                the model of the best score, if a validation set is scored while it learns
out/model.safetensors    the model
out/config.json          written last: the training is finished
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from segkit.documents import read_json
from segtrain.errors import RunError
from segtrain.files import remove_leftovers, write_whole
from segtrain.lock import LOCK, only_process_in

_MODEL = ("model.safetensors", "config.json")
_WRITTEN = ("settings.json", "checkpoint.pt", "validation.json", *_MODEL, *(f"best/{name}" for name in _MODEL))


@dataclasses.dataclass(slots=True)
class Checkpoint:
    """The state after `step` steps. No random state is needed: every draw is a function of (seed, step)."""

    step: int
    network: dict[str, torch.Tensor]
    optimiser: dict[str, dict[str, torch.Tensor]]  # by parameter name, then by what AdamW keeps of it
    method: dict[str, torch.Tensor]
    drawn: list[int]  # samples that each source has given
    best: dict[str, Any] = dataclasses.field(default_factory=dict)  # of `segtrain.validation`; those of old have none


def check_owner(folder: Path, settings: dict[str, Any]) -> None:
    """Raise RunError, naming a setting, if the folder is not empty and not that of a training with these settings.

    Writes nothing.
    """
    path = folder / "settings.json"
    try:
        if not path.is_file():
            if folder.exists() and any(not _is_ours(file.name) for file in folder.iterdir()):
                raise RunError(
                    f"{folder}: holds files, but no settings.json of a training: choose a new or an empty folder"
                )
            return
    except OSError as error:
        raise RunError(f"{folder}: cannot be used as a folder: {error.strerror}") from error
    theirs, ours = read_json(path, RunError), json.loads(json.dumps(settings))
    difference = _first_difference(theirs, ours, "")
    if (
        difference
        and isinstance(theirs, dict)
        and not _first_difference({**theirs, "steps": ours.get("steps")}, ours, "")
    ):
        raise RunError(f"{folder}: {_other_length(theirs.get('steps'), ours, is_finished(folder))}")
    if difference:
        raise RunError(
            f"{folder}: belongs to a training with {difference}: choose another folder, or train with its "
            "settings to go on"
        )


@contextlib.contextmanager
def claimed(folder: Path, settings: dict[str, Any]) -> Iterator[None]:
    """Make the folder this training's own while the block runs, and leave settings.json as the mark of it.

    Raises RunError if it is another's, or if another process is training in it.
    """
    with only_process_in(folder, "training"):
        check_owner(folder, settings)
        for name in _WRITTEN:
            remove_leftovers(folder / name)
        if not (folder / "settings.json").is_file():
            write_whole(folder / "settings.json", json.dumps(settings, indent=2).encode())
        yield


def is_finished(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def standing(folder: Path) -> str:
    """Where a training that was stopped stands, and how it goes on, for people."""
    path = folder / "checkpoint.pt"
    if is_finished(folder):
        return f"{folder} holds the finished model"
    if not path.is_file():
        return f"{folder} has no checkpoint yet, so the same command begins at the first step (see --checkpoint-every)"
    return f"{path} is its checkpoint, and the same command goes on there"


def outcome(folder: Path) -> dict[str, Any]:
    """What a training has come to, as plain JSON values: `finished`, and then `steps`, `seed`, `mix`, the facts of the
    `best` model (None without one), the scores of `validation` (None without a set) and the `comparison` of --compare
    (None without it). Raises RunError."""
    told: dict[str, Any] = {"format": "segtrain-training", "model": str(folder), "finished": is_finished(folder)}
    if told["finished"]:
        config = read_json(folder / "config.json", RunError)
        facts = config.get("_segtrain") if isinstance(config, dict) else None
        if not isinstance(facts, dict):
            raise RunError(f"{folder / 'config.json'}: is not of a training")
        told |= {key: facts.get(key) for key in ("steps", "seed", "mix", "best")}
        for name in ("validation", "comparison"):
            written = folder / f"{name}.json"
            told[name] = read_json(written, RunError) if written.is_file() else None
    return told


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Raises RunError if the disk is full."""
    buffer = io.BytesIO()
    torch.save({field.name: getattr(checkpoint, field.name) for field in dataclasses.fields(checkpoint)}, buffer)
    write_whole(folder / "checkpoint.pt", buffer.getvalue())


def read_checkpoint(folder: Path, device: torch.device) -> Checkpoint | None:
    """None if there is none yet. Raises RunError at a damaged one, or one of another version."""
    path = folder / "checkpoint.pt"
    if not path.is_file():
        return None
    try:
        values = torch.load(path, map_location=device, weights_only=True)
        checkpoint = Checkpoint(**values)
    except (OSError, EOFError, RuntimeError, TypeError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise RunError(f"{path}: damaged ({type(error).__name__}): remove this file to train from the start") from error
    kinds = {"step": int, "network": dict, "optimiser": dict, "method": dict, "drawn": list, "best": dict}
    wrong = [name for name, kind in kinds.items() if not isinstance(getattr(checkpoint, name), kind)]
    if wrong:
        raise RunError(f"{path}: damaged ({wrong[0]} is missing): remove this file to train from the start")
    return checkpoint


def remove_checkpoint(folder: Path) -> None:
    """What a finished model no longer needs: the optimiser's state is twice its size."""
    (folder / "checkpoint.pt").unlink(missing_ok=True)


def _other_length(steps: Any, ours: dict[str, Any], finished: bool) -> str:
    """Why a training cannot be given other steps, and what can be done; nothing else of it differs."""
    state = "finished" if finished else "unfinished"
    why = f"holds {'a' if finished else 'an'} {state} training of {steps} steps, not {ours['steps']}; the learning rate"
    first = "" if finished else f"go on with --steps {steps}, then "
    way = (
        "train on from its model with --init-from and another --out" if "init_from" in ours else "choose another --out"
    )
    return f"{why} follows from their number, so none can be added: {first}{way}"


def _is_ours(name: str) -> bool:
    """A killed training may have left these before settings.json was there."""
    return name == LOCK or (name.startswith(".settings.json.") and name.endswith(".tmp"))


def _first_difference(theirs: Any, ours: Any, name: str) -> str:
    """The first setting that differs, as `name = theirs, not ours`; empty if none does."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in [*ours, *(k for k in theirs if k not in ours)]:
            difference = _first_difference(theirs.get(key), ours.get(key), f"{name}.{key}" if name else key)
            if difference:
                return difference
        return ""
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for number, (left, right) in enumerate(zip(theirs, ours, strict=True)):
            difference = _first_difference(left, right, f"{name}[{number}]")
            if difference:
                return difference
        return ""
    if isinstance(theirs, list) and isinstance(ours, list) and any(isinstance(item, dict) for item in (*theirs, *ours)):
        return f"{len(theirs)} {name}, not {len(ours)}"
    if name.endswith(".content") and theirs != ours:  # a checksum tells people nothing
        return f"other files ({name}): some were added, removed or changed since"
    return "" if theirs == ours else f"{name} = {json.dumps(theirs)}, not {json.dumps(ours)}"
