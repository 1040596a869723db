"""The claim of a stage's folder: for which settings it is, and which units it has; the first one's holds."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from synthgen import leases, storage
from synthgen.errors import RunError, StorageError
from synthgen.files import write_first, write_text
from synthgen.runner import CLAIM, MANIFEST, StageRun, Unit

_DIGEST = re.compile(r"[0-9a-f]{32}(?:[0-9a-f]{32})?")


def check(stage: StageRun, settings: dict[str, Any]) -> bool:
    """Whether the stage's folder is claimed for these settings.

    Raises RunError if it was claimed with others: the message names the first setting that differs, both values and the
    ways out. A claim of which nothing has come binds nobody (the support set turned out to be broken, and was mended).
    Raises RunError for foreign files, too.
    """
    if not stage.is_claimed():
        return False
    found, settings = stage.claim()["settings"], _as_read_back(settings)
    if found != settings:
        if not has_begun(stage):
            return False
        name, before, now = first_difference(found, settings)
        made_with = f"{name} = {before!r}, the recipe now says {now!r}"
        if are_digests(before, now):
            made_with = f"other content than {name} has now"
        raise RunError(
            f"{stage.folder}: this run was made with {made_with}; use another run folder (--run), or --redo "
            f"{stage.name} to keep the old results aside and make them again"
        )
    foreign = _foreign(stage)
    if foreign:
        raise RunError(
            f"{stage.folder}: {foreign} is not part of this run; move it away and run the same command again"
        )
    broken = next(
        (unit for unit in stage.units() if (stage.folder / unit.name).exists() and not stage.is_done(unit)), None
    )
    if broken:  # units appear whole, so somebody else has been here
        raise RunError(
            f"{stage.folder / broken.name}: has no {MANIFEST}, so it is not whole; move it away and run the same "
            "command again"
        )
    return True


def claim(stage: StageRun, settings: dict[str, Any], plan: Callable[[], list[Unit]]) -> None:
    """Take the stage's folder for these settings, planning its units the first time. Raises RunError as `check` does.

    Of two launches at once the first one's plan holds, whatever the other's unit size.
    """
    if check(stage, settings):
        return
    void = stamp(stage.folder / CLAIM)
    body = {"settings": _as_read_back(settings), "units": [_plain(unit) for unit in plan()]}
    try:
        stage.folder.mkdir(parents=True, exist_ok=True)
        strangers = [name for name in storage.names(stage.folder) if name != CLAIM and not name.startswith(".")]
    except OSError as error:
        raise StorageError(
            f"{stage.folder}: cannot be made ({error.strerror}); choose another place with --runs"
        ) from error
    if strangers and stage.is_claimed():  # another launch has been faster, and has units already
        check(stage, settings)
        return
    if strangers:
        raise RunError(
            f"{stage.folder}: has no {CLAIM} but holds {strangers[0]!r}, which is not ours; move it away or "
            "choose another run folder (--run)"
        )
    text = json.dumps(body, indent=1) + "\n"
    if void is not None and stamp(stage.folder / CLAIM) == void:
        write_text(text, stage.folder / CLAIM)  # a claim of which nothing has come
        storage.publish(stage.folder / CLAIM)
    elif not write_first(text, stage.folder / CLAIM) or not storage.publish_first(stage.folder / CLAIM):
        check(stage, settings)


def extend(stage: StageRun, units: Sequence[Unit]) -> None:
    """Append units to the plan. What is planned stays as it is, so finished units keep their rows and their places. Of
    two launches that plan the same units at the same moment the first one's hold.
    """
    body = stage.claim()
    planned = {unit["name"] for unit in body["units"]}
    body["units"] += [_plain(unit) for unit in units if unit.name not in planned]
    write_text(json.dumps(body, indent=1) + "\n", stage.folder / CLAIM)
    storage.publish(stage.folder / CLAIM)


def set_aside(stage: StageRun) -> Path | None:
    """Rename a stage's folder to `<stage>.old-<n>`: nothing is deleted. None if there is no such folder."""
    taken = storage.names(stage.folder.parent) if stage.folder.parent.exists() else []
    if stage.folder.name not in taken:
        return None
    number = next(number for number in itertools.count(1) if f"{stage.folder.name}.old-{number}" not in taken)
    target = stage.folder.with_name(f"{stage.folder.name}.old-{number}")
    try:
        storage.move(stage.folder, target, CLAIM)
        if stage.folder.exists():
            stage.folder.rename(target)
    except OSError as error:
        raise StorageError(
            f"{stage.folder}: cannot be set aside as {target.name} ({error.strerror}); mend the permissions"
        ) from error
    return target


def _plain(unit: Unit) -> dict[str, Any]:
    """As stage.json has it: `keys` only where there are some, so that plans look as they always have."""
    return {name: value for name, value in dataclasses.asdict(unit).items() if name != "keys" or value}


def stamp(path: Path) -> tuple[int, int] | None:
    """Changes whenever a file is written anew; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def fingerprint(settings: dict[str, Any]) -> str:
    """12 hex digits that change with any setting."""
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=6).hexdigest()


def first_difference(before: Any, now: Any, name: str = "") -> tuple[str, Any, Any]:
    """(dotted name, value before, value now) of the first setting that differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            if before.get(key) != now.get(key):
                return first_difference(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    return name, before, now


def are_digests(*values: Any) -> bool:
    """Whether these settings stand for the content of files, which tells nobody anything."""
    return all(isinstance(value, str) and _DIGEST.fullmatch(value) for value in values)


def _as_read_back(settings: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(settings))  # tuples become lists
    return found


def has_begun(stage: StageRun) -> bool:
    """Whether anything has come of a claim: a unit, or scratch that may be a living process's."""
    leases.sweep(stage.folder)
    # a hidden file is what an interrupted unit keeps for the next try (a language model's replies): nothing has come of
    # it yet
    names = (name for name in storage.names(stage.folder) if name != CLAIM and not name.startswith("."))
    return any(entry.is_dir() for entry in stage.folder.iterdir()) or any(names)


def _foreign(stage: StageRun) -> str | None:
    ours = {CLAIM, *(unit.name for unit in stage.units())}
    return next((name for name in storage.names(stage.folder) if name not in ours and not name.startswith(".")), None)
