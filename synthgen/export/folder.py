"""The folder that an export is written to: claimed before anything else, whole when `export.json` is there.

out/.unfinished/claim.json            which dataset and format; written first
out/.unfinished/train-000000.rows     the rows of one shard; written last of the shard: its done-marker
out/export.json                       written last of all; .unfinished is removed then
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from segkit.documents import read_json
from segkit.errors import InputError
from segkit.printable import excerpt
from synthgen.errors import StorageError

DONE_FILE = "export.json"
UNFINISHED = ".unfinished"
CLAIM_FILE = "claim.json"
_CLAIM_KEYS = ("format", "dataset", "index_sha256")


class ExportFolder:
    """`claim` has the values of `format`, `dataset` and `index_sha256`: another claim in the same folder is refused."""

    def __init__(self, folder: Path, claim: Mapping[str, str]) -> None:
        self.folder = folder
        self._unfinished = folder / UNFINISHED
        self._claim = {key: claim[key] for key in _CLAIM_KEYS}

    def open(self) -> bool:
        """Claim the folder, make it if need be; True if the export in it is whole already.

        Raises StorageError for a folder that holds anything else, or another export.
        """
        with _named_in_errors(self.folder):
            done = self.folder / DONE_FILE
            if done.is_file():
                self._check(done)
                self._remove_working_files()  # a kill between the two last steps leaves them
                return True
            foreign = StorageError(
                f"{self.folder}: exists and is no export of this dataset; nothing was written, choose a new folder"
            )
            claimed = self._unfinished / CLAIM_FILE
            if self._unfinished.is_symlink():  # what is written would lie somewhere else
                raise foreign
            if claimed.is_file():
                self._check(claimed)
                return False
            if self.folder.exists() and (
                not self.folder.is_dir()
                or any(path.name != UNFINISHED for path in self.folder.iterdir())
                # a kill before the claim leaves the folder, with at most the beginning of the claim
                or any(not _is_working_file(path) for path in self._unfinished.glob("*"))
            ):
                raise foreign
            self._unfinished.mkdir(parents=True, exist_ok=True)
            self._write(claimed, [json.dumps(self._claim).encode()])
        return False

    def has(self, shard: str) -> bool:
        """Whether a shard is done."""
        return self._rows(shard).is_file()

    def put(self, path: str, pieces: Iterable[bytes]) -> None:
        """Write one file, by its path below the folder, whole or not at all."""
        relative = PurePosixPath(path)
        if relative.is_absolute() or ".." in relative.parts:
            raise ValueError(f"{path!r} leads out of the export folder")
        target = self.folder / relative
        with _named_in_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            self._write(target, pieces)

    def put_rows(self, shard: str, rows: Iterable[tuple[str, Any]]) -> None:
        """Write the rows of one shard; it counts as done from then on."""
        with _named_in_errors(self._rows(shard)):
            lines = (
                f"{table}\t{json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n" for table, value in rows
            )
            self._write(self._rows(shard), (line.encode() for line in lines))

    def rows(self, shards: Iterable[str], table: str) -> Iterator[str]:
        """The rows of one table as JSON texts, shard after shard; one in memory at a time."""
        for shard in shards:
            with self._rows(shard).open(encoding="utf-8") as file:
                for line in file:
                    name, _, text = line.partition("\t")
                    if name == table:
                        yield text.rstrip("\n")

    def close(self, facts: Mapping[str, Any]) -> None:
        """Write `export.json` and remove the working folder."""
        self.put(DONE_FILE, [(json.dumps({**self._claim, **facts}, indent=1, ensure_ascii=False) + "\n").encode()])
        self._remove_working_files()

    def _remove_working_files(self) -> None:
        """Remove what this module has written to the working folder; what others put there stays."""
        if self._unfinished.is_symlink():
            return
        for path in self._unfinished.glob("*"):
            if _is_working_file(path):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._unfinished.rmdir()

    def _rows(self, shard: str) -> Path:
        return self._unfinished / f"{shard}.rows"

    def _check(self, path: Path) -> None:
        try:
            claim = read_json(path)
            strange = next((key for key in _CLAIM_KEYS if claim[key] != self._claim[key]), None)
        except (InputError, KeyError, TypeError) as error:
            raise StorageError(f"{path}: is not of an export; choose a new folder") from error
        if strange is not None:
            what = f"{strange} {excerpt(claim[strange])}, not {self._claim[strange]!r}"
            raise StorageError(
                f"{self.folder}: holds another export ({what}); choose a new folder, or remove this one first"
            )

    def _write(self, path: Path, pieces: Iterable[bytes]) -> None:
        # in the working folder, so that a kill leaves no half file among the finished ones
        temporary = self._unfinished / f"{path.name}.{os.getpid()}.part"
        with temporary.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def _is_working_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and (path.name == CLAIM_FILE or path.suffix in (".rows", ".part"))


@contextlib.contextmanager
def _named_in_errors(path: Path) -> Iterator[None]:
    """Turns an OSError into one line that names the place."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be written ({error.strerror or error}); free the space or mend the permissions"
        ) from error
