"""Plan, process, commit, resume: how a stage's work is done so that a kill at any moment loses at most one unit.

    runs/<name>/<stage>/stage.json                the stage's settings and its plan; written first, claims the folder
    runs/<name>/<stage>/00003/rejected.parquet    what unit 3 refused, and why
    runs/<name>/<stage>/00003/manifest.parquet    what unit 3 made; written last: its presence is the done-marker

A unit is built in a hidden folder beside its place and renamed into it, so it exists whole or not at all. Units are planned by count before
anything runs. Two workers on one unit write the same bytes and the second one's folder is dropped; the hidden folder is also the lease by which
a second launch sees that a unit is taken.
"""

from __future__ import annotations

import bisect
import collections
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.errors import RunError, StorageError
from synthgen.files import is_alive, write_bytes
from synthgen.records import Rejected, read_rows, write_rows

MANIFEST = "manifest.parquet"
REJECTED = "rejected.parquet"
CLAIM = "stage.json"
SECONDS = "seconds.txt"
FAILED = "failed"  # reason of a row that raised an error each time; `synthgen retry --failed` takes these again
LEASE_S = 120.0  # scratch of another machine in which nothing has changed for so long is given up
POLL_S = 0.2


class Stage(Protocol):
    """One step of the pipeline with its models loaded."""

    def process(self, rows: Sequence[Any], folder: Path, unit: str) -> Iterable[Any]:
        """Made rows or Rejected, in any order; artefacts go to `folder`."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Unit:
    """Rows that are done together. `start` and `stop` are positions among the rows of the stage before; `keys` name the rows of a unit that takes
    failed ones again, and such a unit has no positions."""

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
        try:
            claim = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RunError(f"{path}: the stage {self.name!r} has not been started in this run") from error
        except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise RunError(_damaged_claim(path, str(error))) from error
        try:
            for unit in claim["units"]:
                _unit(unit)
        except (KeyError, TypeError) as error:
            raise RunError(_damaged_claim(path, f"{type(error).__name__}: {error}")) from error
        if not isinstance(claim.get("settings"), dict):
            raise RunError(_damaged_claim(path, "it has no settings"))
        return claim

    def is_claimed(self) -> bool:
        return (self.folder / CLAIM).is_file()

    def is_done(self, unit: Unit) -> bool:
        return (self.folder / unit.name / MANIFEST).is_file()

    def missing(self) -> list[Unit]:
        """Units without a manifest, in order."""
        return [unit for unit in self.units() if not self.is_done(unit)]

    def is_complete(self) -> bool:
        return self.is_claimed() and not self.missing()

    def rows(self, start: int = 0, stop: int | None = None) -> list[Any]:
        """Made rows number start..stop over all units in plan order; only the units that hold them are read."""
        return list(self.iter_rows(start, stop))

    def iter_rows(self, start: int = 0, stop: int | None = None) -> Iterator[Any]:
        """As `rows`, with one unit in memory at a time."""
        position = 0
        for unit in self.units():
            path = self.folder / unit.name / MANIFEST
            if stop is not None and position >= stop:
                break
            count = num_rows(path)
            if position + count > start:
                yield from _read(path, self.gives)[max(0, start - position) : None if stop is None else max(0, stop - position)]
            position += count

    def num_rows(self) -> int:
        """Rows made so far, from the manifests' footers alone."""
        return sum(num_rows(self.folder / unit.name / MANIFEST) for unit in self.units() if self.is_done(unit))

    def rejected(self) -> list[Rejected]:
        """What the finished units refused, in plan order. A failed row that a later unit has taken again counts as that one found it."""
        done = [unit for unit in self.units() if self.is_done(unit)]
        again = {key: unit.name for unit in done for key in unit.keys}
        return [
            row
            for unit in done
            for row in _read(self.folder / unit.name / REJECTED, Rejected)
            if row.reason != FAILED or again.get(row.parent, unit.name) == unit.name
        ]

    def counts(self, unit: Unit) -> tuple[int, int]:
        """Rows made and refused of one finished unit, from the footers alone."""
        return num_rows(self.folder / unit.name / MANIFEST), num_rows(self.folder / unit.name / REJECTED)

    def reasons(self) -> dict[str, int]:
        """reason -> how often, most frequent first."""
        return dict(collections.Counter(row.reason for row in self.rejected()).most_common())


class Positions:
    """Finds rows of a complete stage by number without looking into each unit's footer again: they are counted once, at the first call.

    A worker that asks for unit after unit would otherwise read all footers before it each time, quadratic in the units.
    """

    def __init__(self, stage: StageRun) -> None:
        self._stage = stage
        self._paths = [stage.folder / unit.name / MANIFEST for unit in stage.units()]
        self._starts = [0, *itertools.accumulate(num_rows(path) for path in self._paths)]

    def rows(self, start: int, stop: int) -> list[Any]:
        """Rows number start..stop in plan order."""
        found: list[Any] = []
        first = max(0, bisect.bisect_right(self._starts, start) - 1)
        for path, at in zip(self._paths[first:], self._starts[first:], strict=False):
            if at >= stop:
                break
            found += _read(path, self._stage.gives)[max(0, start - at) : stop - at]
        return found


def _unit(raw: dict[str, Any]) -> Unit:
    return Unit(**{**raw, "keys": tuple(raw["keys"])} if "keys" in raw else raw)


def _plain(unit: Unit) -> dict[str, Any]:
    """As stage.json has it: `keys` only where there are some, so that plans look as they always have."""
    return {name: value for name, value in dataclasses.asdict(unit).items() if name != "keys" or value}


def num_rows(path: Path) -> int:
    """Rows of a parquet file from its footer. Raises RunError for a damaged file."""
    try:
        return pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RunError(_damaged(path, error)) from error


def _read(path: Path, record: type) -> list[Any]:
    try:
        return read_rows(path, record)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise RunError(_damaged(path, error)) from error


def _damaged(path: Path, error: Exception) -> str:
    return f"{path}: is damaged ({' '.join(str(error).split())[:120]}); move the unit folder {path.parent} away and run the same command again"


def _damaged_claim(path: Path, why: str) -> str:
    return f"{path}: is damaged ({why}); move the folder {path.parent} away and run the stage again"


def check(stage: StageRun, settings: dict[str, Any]) -> bool:
    """Whether the stage's folder is claimed for these settings.

    Raises RunError if it was claimed with others: the message names the first setting that differs, both values and the ways out. A claim of
    which nothing has come binds nobody (the support set turned out to be broken, and was mended). Raises RunError for foreign files, too.
    """
    if not stage.is_claimed():
        return False
    found, settings = stage.claim()["settings"], _as_read_back(settings)
    if found != settings:
        if not _has_begun(stage):
            return False
        name, before, now = _first_difference(found, settings)
        raise RunError(
            f"{stage.folder}: this run was made with {name} = {before!r}, the recipe now says {now!r}; "
            f"use another run folder (--run), or --redo {stage.name} to keep the old results aside and make them again"
        )
    foreign = _foreign(stage)
    if foreign:
        raise RunError(f"{stage.folder}: {foreign} is not part of this run; move it away and run the same command again")
    broken = next((unit for unit in stage.units() if (stage.folder / unit.name).exists() and not stage.is_done(unit)), None)
    if broken:  # units appear whole, so somebody else has been here
        raise RunError(f"{stage.folder / broken.name}: has no {MANIFEST}, so it is not whole; move it away and run the same command again")
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
        strangers = sorted(entry.name for entry in stage.folder.iterdir() if entry.name != CLAIM and not entry.name.startswith("."))
    except OSError as error:
        raise StorageError(f"{stage.folder}: cannot be made ({error.strerror}); choose another place with --runs") from error
    if strangers:
        raise RunError(
            f"{stage.folder}: has no {CLAIM} but holds {strangers[0]!r}, which is not ours; move it away or choose another run folder (--run)"
        )
    text = json.dumps(body, indent=1) + "\n"
    if void is not None and stamp(stage.folder / CLAIM) == void:
        write_text(text, stage.folder / CLAIM)  # a claim of which nothing has come
    elif not _write_first(text, stage.folder / CLAIM):
        check(stage, settings)


def extend(stage: StageRun, units: Sequence[Unit]) -> None:
    """Append units to the plan. What is planned stays as it is, so finished units keep their rows and their places."""
    body = stage.claim()
    body["units"] += [_plain(unit) for unit in units]
    write_text(json.dumps(body, indent=1) + "\n", stage.folder / CLAIM)


def set_aside(stage: StageRun) -> Path | None:
    """Rename a stage's folder to `<stage>.old-<n>`: nothing is deleted. None if there is no such folder."""
    if not stage.folder.exists():
        return None
    number = 1
    while (target := stage.folder.with_name(f"{stage.folder.name}.old-{number}")).exists():
        number += 1
    try:
        stage.folder.rename(target)
    except OSError as error:
        raise StorageError(f"{stage.folder}: cannot be set aside as {target.name} ({error.strerror}); mend the permissions") from error
    return target


def run_unit(stage: StageRun, unit: Unit, processor: Stage, rows: Sequence[Any]) -> tuple[int, int]:
    """Do one unit and commit it. Returns how many rows were made and how many refused.

    Raises RunError, leaving nothing behind, if an input row has neither a made row nor a Rejected: nothing is ever lost without a reason.
    """
    began = time.monotonic()
    final = stage.folder / unit.name
    temporary = stage.folder / f".{unit.name}.{socket.gethostname()}.{os.getpid()}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # our own, from an earlier try of this process
        temporary.mkdir()
        made: list[Any] = []
        refused: list[Rejected] = []
        for row in processor.process(rows, temporary, unit.name):
            (refused if isinstance(row, Rejected) else made).append(row)
        _account(stage, unit, rows, made, refused)
        write_rows(refused, Rejected, temporary / REJECTED)
        (temporary / SECONDS).write_text(f"{time.monotonic() - began:.3f}\n", encoding="utf-8")
        write_rows(made, stage.gives, temporary / MANIFEST)
        _sync(temporary)
        try:
            temporary.rename(final)
        except OSError:
            if not stage.is_done(unit):
                raise
            shutil.rmtree(temporary)  # another worker was first, with the same bytes
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        why = error.strerror or error
        raise StorageError(f"{final}: cannot be written ({why}); free the space or mend the permissions, then run the same command again") from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return len(made), len(refused)


def sweep(stage: StageRun) -> None:
    """Remove the hidden half-made units of dead processes of this machine. Finished units are never touched."""
    host = socket.gethostname()
    for entry in stage.folder.glob(f".*.{host}.*"):
        pid = entry.name.rpartition(".")[2]
        if pid.isdigit() and not is_alive(int(pid)):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    entry.unlink()


def is_taken(stage: StageRun, unit: Unit) -> bool:
    """Whether another process has scratch of this unit: it is at work on it, or has died on a machine that cannot be seen from here."""
    return bool(_leases(stage, [unit]))


def wait_for_others(stage: StageRun, units: Sequence[Unit], lease_s: float = LEASE_S) -> list[Unit]:
    """Wait for units that others have taken. Returns those whose lease has ended without a result: the holder is gone, or has left its scratch
    unchanged for `lease_s`. Ages are this process's own monotonic time, so no clock of any machine matters.
    """
    seen: dict[Path, tuple[Any, float]] = {}
    while True:
        left = [unit for unit in units if not stage.is_done(unit)]
        now = time.monotonic()
        leases = _leases(stage, left)
        for path in leases:
            found = _signature(path)
            if path not in seen or seen[path][0] != found:
                seen[path] = found, now
        held = {_unit_of(path) for path in leases if now - seen[path][1] < lease_s}
        if not left or any(unit.name not in held for unit in left):
            return [unit for unit in left if unit.name not in held]
        time.sleep(POLL_S)


def _leases(stage: StageRun, units: Collection[Unit]) -> list[Path]:
    """Scratch of these units that is neither this process's nor a dead process's of this machine."""
    names = {unit.name for unit in units}
    host = socket.gethostname()
    found = []
    with os.scandir(stage.folder) as entries:
        for entry in entries:
            unit, _, holder = entry.name[1:].partition(".")
            machine, _, pid = holder.rpartition(".")
            if not entry.name.startswith(".") or unit not in names or not pid.isdigit():
                continue
            if machine != host or (int(pid) != os.getpid() and is_alive(int(pid))):
                found.append(stage.folder / entry.name)
    return found


def _unit_of(scratch: Path) -> str:
    return scratch.name[1:].partition(".")[0]


def _signature(scratch: Path) -> Any:
    """Changes when a file of the scratch is made or grows."""
    try:
        return sorted((entry.name, entry.stat().st_size) for entry in os.scandir(scratch))
    except OSError:
        return None


def seconds(stage: StageRun) -> float:
    """Working time of the finished units, added up."""
    return sum(_seconds(stage.folder / unit.name / SECONDS) for unit in stage.units() if stage.is_done(unit))


def _seconds(path: Path) -> float:
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise RunError(_damaged(path, error)) from error


def write_text(text: str, path: Path) -> None:
    """Write whole or not at all, making the folder. Raises StorageError in one line."""
    way_out = "free the space, mend the permissions or choose another place with --runs"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error}); {way_out}") from error
    write_bytes(text.encode(), path, way_out)


def _write_first(text: str, path: Path) -> bool:
    """Write whole, unless the file is there: of several writers exactly one wins. Raises StorageError as `write_text` does."""
    candidate = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
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


def _account(stage: StageRun, unit: Unit, rows: Sequence[Any], made: Sequence[Any], refused: Sequence[Rejected]) -> None:
    done: set[str] = set()
    for row in made:
        done.update(getattr(row, "parents", ()) or (row.key, row.parent))
    for row in refused:
        done.update((row.key, row.parent))
    lost = [row.key for row in rows if row.key not in done]
    if lost:
        raise RunError(
            f"{stage.name} unit {unit.name}: {len(lost)} rows gave neither a result nor a reason, first {lost[0]}; this is a defect of the stage"
        )
    keys = collections.Counter(row.key for row in made)
    twice = [key for key, count in keys.items() if count > 1]
    if twice:
        raise RunError(f"{stage.name} unit {unit.name}: key {twice[0]} was made twice; this is a defect of the stage")


def _first_difference(before: Any, now: Any, name: str = "") -> tuple[str, Any, Any]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            if before.get(key) != now.get(key):
                return _first_difference(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    return name, before, now


def _as_read_back(settings: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(settings))  # tuples become lists
    return found


def _has_begun(stage: StageRun) -> bool:
    """Whether anything has come of a claim: a unit, or scratch that may be a living process's."""
    sweep(stage)
    return any(entry.is_dir() for entry in stage.folder.iterdir())


def _foreign(stage: StageRun) -> str | None:
    ours = {CLAIM, *(unit.name for unit in stage.units())}
    strangers = sorted(entry.name for entry in stage.folder.iterdir() if entry.name not in ours and not entry.name.startswith("."))
    return strangers[0] if strangers else None


def _sync(folder: Path) -> None:
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
