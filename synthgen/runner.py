"""Plan, process, commit, resume: how a stage's work is done so that a kill at any moment loses at most one unit.

    runs/<name>/<stage>/stage.json                the stage's settings and its plan; written first, claims the folder
    runs/<name>/<stage>/00003/rejected.parquet    what unit 3 refused, and why
    runs/<name>/<stage>/00003/manifest.parquet    what unit 3 made; written last: its presence is the done-marker

A unit is built in a hidden folder beside its place and renamed into it, so it exists whole or not at all. Units are
planned by count before anything runs. Two workers on one unit write the same bytes and the second one's folder is
dropped; the hidden folder is also the lease by which a second launch sees that a unit is taken.
"""

from __future__ import annotations

import array
import collections
import dataclasses
import hashlib
import itertools
import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.compute as pc

from segkit.documents import read_json
from segkit.errors import InputError
from segkit.files import read_regular
from segkit.printable import excerpt
from synthgen import leases, storage
from synthgen.errors import RunError, StorageError
from synthgen.files import scratch_beside, write_bytes
from synthgen.records import Rejected
from synthgen.rows import RowWriter, StoredRows, damaged, group_sizes

MANIFEST = "manifest.parquet"
REJECTED = "rejected.parquet"
CLAIM = "stage.json"
MAX_CLAIM_BYTES = 2**30
_UNIT_NAME = re.compile(r"[a-z0-9][A-Za-z0-9_-]*")
SECONDS = "seconds.txt"
FAILED = "failed"  # reason of a row that raised an error each time; `synthgen retry --failed` takes these again


class Stage(Protocol):
    """One step of the pipeline with its models loaded."""

    def process(self, rows: Any, folder: Path, unit: str) -> Iterable[Any]:
        """Made rows or Rejected, in any order; artefacts go to `folder`."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Unit:
    """Rows that are done together. `start` and `stop` are positions among the rows of the stage before; `keys` name the
    rows of a unit that takes failed ones again, and such a unit has no positions."""

    name: str
    start: int
    stop: int
    keys: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class StageRun:
    """A stage in a run folder."""

    name: str
    folder: Path
    gives: type
    reads: StageRun | None  # the stage before; None for the first

    def units(self) -> list[Unit]:
        """The plan. Raises RunError if the stage has not been planned."""
        return [_unit(unit) for unit in self.claim()["units"]]

    def claim(self) -> dict[str, Any]:
        """What stage.json says. Raises RunError if it is missing or damaged."""
        path = self.folder / CLAIM
        if not path.exists():
            raise RunError(f"{path}: the stage {self.name!r} has not been started in this run")
        try:
            claim: dict[str, Any] = read_json(path, max_bytes=MAX_CLAIM_BYTES)
            for unit in claim["units"]:
                _unit(unit)
        except InputError as error:
            raise RunError(_damaged_claim(path, str(error).removeprefix(f"{path}: "))) from error
        except (KeyError, TypeError) as error:
            raise RunError(_damaged_claim(path, f"{type(error).__name__}: {error}")) from error
        if not isinstance(claim.get("settings"), dict):
            raise RunError(_damaged_claim(path, "it has no settings"))
        return claim

    def is_claimed(self) -> bool:
        storage.refresh(self.folder / CLAIM)
        return (self.folder / CLAIM).is_file()

    def is_done(self, unit: Unit) -> bool:
        return self.has(unit.name)

    def has(self, unit: str) -> bool:
        """Whether the unit of this name is done."""
        return (self.folder / unit / MANIFEST).is_file()

    def missing(self) -> list[Unit]:
        """Units without a manifest, in order."""
        units = self.units()
        storage.fetch_units(self.folder, [unit.name for unit in units])
        return [unit for unit in units if not self.is_done(unit)]

    def is_complete(self) -> bool:
        return self.is_claimed() and not self.missing()

    def rows(self, start: int = 0, stop: int | None = None) -> list[Any]:
        """Made rows number start..stop over all units in plan order; only the units that hold them are read."""
        return list(self.iter_rows(start, stop))

    def iter_rows(self, start: int = 0, stop: int | None = None) -> Iterator[Any]:
        """As `rows`, with some rows in memory at a time."""
        position = 0
        for unit in self.units():
            path = self.folder / unit.name / MANIFEST
            if stop is not None and position >= stop:
                break
            count = num_rows(path)
            first, last = max(0, start - position), count if stop is None else min(count, stop - position)
            if first == 0 and last == count:
                yield from StoredRows([path], self.gives)
            elif first < last:
                yield from StoredRows([path], self.gives).rows(first, last)
            position += count

    def stored(self) -> StoredRows:
        """All rows of a complete stage, read as they are asked for; the footers are read now."""
        return StoredRows([self.folder / unit.name / MANIFEST for unit in self.units()], self.gives)

    def num_rows(self) -> int:
        """Rows made so far, from the manifests' footers alone."""
        return sum(num_rows(self.folder / unit.name / MANIFEST) for unit in self.units() if self.is_done(unit))

    def rejected(self) -> list[Rejected]:
        """What the finished units refused, in plan order.

        A failed row that a later unit has taken again counts as that one found it.
        """
        done = [unit for unit in self.units() if self.is_done(unit)]
        again = {key: unit.name for unit in done for key in unit.keys}
        return [
            row
            for unit in done
            for row in StoredRows([self.folder / unit.name / REJECTED], Rejected)
            if row.reason != FAILED or again.get(row.parent, unit.name) == unit.name
        ]

    def num_rejected(self) -> int:
        """How many rows `rejected` has."""
        return sum(self.reasons().values())

    def counts(self, unit: Unit) -> tuple[int, int]:
        """Rows made and refused of one finished unit, from the footers alone."""
        return num_rows(self.folder / unit.name / MANIFEST), num_rows(self.folder / unit.name / REJECTED)

    def reasons(self) -> dict[str, int]:
        """reason -> how often, most frequent first. Two columns are read of a file that has rows, no file is held."""
        done = [unit for unit in self.units() if self.is_done(unit)]
        again = {key: unit.name for unit in done for key in unit.keys}
        found: collections.Counter[str] = collections.Counter()
        for unit in done:
            path = self.folder / unit.name / REJECTED
            if not num_rows(path):
                continue
            for table in StoredRows([path], Rejected).tables(["reason", "parent"]):
                # in order of first occurrence, which is the order of equally frequent ones
                found.update(
                    {item["values"]: item["counts"] for item in pc.value_counts(table.column("reason")).to_pylist()}
                )
                if again:
                    failed = table.filter(pc.equal(table.column("reason"), FAILED)).column("parent").to_pylist()
                    found[FAILED] -= sum(again.get(parent, unit.name) != unit.name for parent in failed)
        return {reason: count for reason, count in found.most_common() if count}


def _unit(raw: dict[str, Any]) -> Unit:
    """Raises KeyError or TypeError for what no plan has: a name that leads elsewhere, keys that are no texts."""
    name, start, stop, keys = raw["name"], raw["start"], raw["stop"], raw.get("keys", [])
    if not isinstance(name, str) or _UNIT_NAME.fullmatch(name) is None:
        raise TypeError(f"unit name {excerpt(name)}")
    if type(start) is not int or type(stop) is not int or not 0 <= start <= stop:
        raise TypeError(f"positions {excerpt(start)} to {excerpt(stop)} of unit {name}")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise TypeError(f"keys of unit {name}")
    return Unit(name, start, stop, tuple(keys))


def _plain(unit: Unit) -> dict[str, Any]:
    """As stage.json has it: `keys` only where there are some, so that plans look as they always have."""
    return {name: value for name, value in dataclasses.asdict(unit).items() if name != "keys" or value}


def num_rows(path: Path) -> int:
    """Rows of a parquet file from its footer. Raises RunError for a damaged file."""
    return sum(group_sizes(path))


def _damaged_claim(path: Path, why: str) -> str:
    return f"{path}: is damaged ({why}); move the folder {path.parent} away and run the stage again"


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
        raise RunError(
            f"{stage.folder}: this run was made with {name} = {before!r}, the recipe now says {now!r}; "
            f"use another run folder (--run), or --redo {stage.name} to keep the old results aside and make them again"
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
    """Append units to the plan. What is planned stays as it is, so finished units keep their rows and their places."""
    body = stage.claim()
    body["units"] += [_plain(unit) for unit in units]
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


def run_unit(stage: StageRun, unit: Unit, processor: Stage, rows: Sequence[Any] | StoredRows) -> tuple[int, int]:
    """Do one unit and commit it. Returns how many rows were made and how many refused.

    Raises RunError, leaving nothing behind, if an input row has neither a made row nor a Rejected: nothing is ever lost
    without a reason.
    """
    began = time.monotonic()
    final = stage.folder / unit.name
    temporary = scratch_beside(final)
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # our own, from an earlier try of this process
        temporary.mkdir()
        account = _Account()
        with RowWriter(stage.gives, temporary / MANIFEST) as made, RowWriter(Rejected, temporary / REJECTED) as refused:
            for row in processor.process(rows, temporary, unit.name):
                account.add(row)
                (refused if isinstance(row, Rejected) else made).add(row)
        account.check(stage, unit, rows, temporary / MANIFEST)
        (temporary / SECONDS).write_text(f"{time.monotonic() - began:.3f}\n", encoding="utf-8")
        _sync(temporary)
        storage.publish_unit(temporary, final)
        try:
            temporary.rename(final)
        except OSError:
            if not stage.is_done(unit):
                raise
            shutil.rmtree(temporary)  # another worker was first, with the same bytes
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        why = error.strerror or error
        raise StorageError(
            f"{final}: cannot be written ({why}); free the space or mend the permissions, then run the same "
            "command again"
        ) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return made.num_rows, refused.num_rows


def seconds(stage: StageRun) -> float:
    """Working time of the finished units, added up."""
    return sum(read_seconds(stage.folder / unit.name / SECONDS) for unit in stage.units() if stage.is_done(unit))


def read_seconds(path: Path) -> float:
    """The working time of one unit. Raises RunError for what is no time."""
    try:
        time_s = float(read_regular(path, 64, InputError))
        if not 0 <= time_s < math.inf:
            raise ValueError(f"{time_s} seconds")
        return time_s
    except (InputError, ValueError) as error:
        raise RunError(damaged(path, error)) from error


def write_text(text: str, path: Path) -> None:
    """Write whole or not at all, making the folder. Raises StorageError in one line."""
    way_out = "free the space, mend the permissions or choose another place with --runs"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error}); {way_out}") from error
    write_bytes(text.encode(), path, way_out)


def write_first(text: str, path: Path) -> bool:
    """Write whole, unless the file is there: of several writers exactly one wins.

    Raises StorageError as `write_text` does.
    """
    candidate = scratch_beside(path)
    write_text(text, candidate)
    try:
        os.link(candidate, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links: the window between look and rename is all that is left open
        if path.exists():
            return False
        write_text(text, path)
    finally:
        candidate.unlink(missing_ok=True)
    return True


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


class _Account:
    """Which rows have been answered: 8 bytes a key (Python's own 64-bit hash), for units of a million rows."""

    def __init__(self) -> None:
        self._made, self._answered = array.array("q"), array.array("q")

    def add(self, row: Any) -> None:
        if not isinstance(row, Rejected):
            self._made.append(hash(row.key))
        self._answered.extend(map(hash, getattr(row, "parents", ()) or (row.key, row.parent)))

    def check(self, stage: StageRun, unit: Unit, rows: Sequence[Any] | StoredRows, manifest: Path) -> None:
        """Raises RunError if a row has no answer, or if a key was made twice."""
        answered, lost, first = np.unique(np.frombuffer(self._answered, np.int64)), 0, ""
        for keys in _keys(rows):
            missing = np.flatnonzero(~np.isin(np.fromiter(map(hash, keys), np.int64, len(keys)), answered))
            first = keys[missing[0]] if len(missing) and not lost else first
            lost += len(missing)
        if lost:
            raise RunError(
                f"{stage.name} unit {unit.name}: {lost} rows gave neither a result nor a reason, first {first}; "
                "this is a defect of the stage"
            )
        made = np.sort(np.frombuffer(self._made, np.int64))
        if (made[1:] == made[:-1]).any():  # two keys may have one hash, so look at the keys
            seen: set[str] = set()
            for key in (key for keys in _keys(StoredRows([manifest], stage.gives)) for key in keys):
                if key in seen:
                    raise RunError(
                        f"{stage.name} unit {unit.name}: key {key} was made twice; this is a defect of the stage"
                    )
                seen.add(key)


def _keys(rows: Sequence[Any] | StoredRows) -> Iterator[list[str]]:
    if not isinstance(rows, StoredRows):
        yield [row.key for row in rows]
        return
    for table in rows.tables(["key"]):
        yield table.column("key").to_pylist()


def first_difference(before: Any, now: Any, name: str = "") -> tuple[str, Any, Any]:
    """(dotted name, value before, value now) of the first setting that differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            if before.get(key) != now.get(key):
                return first_difference(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    return name, before, now


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


def _sync(folder: Path) -> None:
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
