"""Plan, process, commit, resume: how a stage's work is done so that a kill at any moment loses at most one unit.

    runs/<name>/<stage>/stage.json                the stage's settings and its plan; written first, claims the folder
    runs/<name>/<stage>/00003/rejected.parquet    what unit 3 refused, and why
    runs/<name>/<stage>/00003/manifest.parquet    what unit 3 made; written last: its presence is the done-marker

A unit is built in a hidden folder beside its place and renamed into it, so it exists whole or not at all. Units are
planned by count before anything runs. Two workers on one unit write the same bytes and the second one's folder is
dropped; the hidden folder is also the lease by which a second launch sees that a unit is taken.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow.compute as pc

from segkit.documents import read_json
from segkit.errors import InputError
from segkit.files import read_regular
from segkit.printable import excerpt
from synthgen import storage
from synthgen.accounting import Account
from synthgen.errors import RunError, StorageError
from synthgen.files import scratch_beside
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


def num_rows(path: Path) -> int:
    """Rows of a parquet file from its footer. Raises RunError for a damaged file."""
    return sum(group_sizes(path))


def _damaged_claim(path: Path, why: str) -> str:
    return f"{path}: is damaged ({why}); move the folder {path.parent} away and run the stage again"


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
        account = Account()
        with RowWriter(stage.gives, temporary / MANIFEST) as made, RowWriter(Rejected, temporary / REJECTED) as refused:
            for row in processor.process(rows, temporary, unit.name):
                account.add(row)
                (refused if isinstance(row, Rejected) else made).add(row)
        account.check(stage.name, unit.name, stage.gives, rows, temporary / MANIFEST)
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


def _sync(folder: Path) -> None:
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
