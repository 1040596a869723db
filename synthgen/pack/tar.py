"""Writes one shard: a USTAR tar of samples. The same samples give the same bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from segkit.metadata import KEY_FORM, MEMBERS, ORIGINAL_MEMBERS, is_key, metadata_bytes
from segkit.ustar import BLOCK, RECORD, member_header, padding
from synthgen.errors import InputError, StorageError
from synthgen.files import temporary_beside


@dataclasses.dataclass(frozen=True, slots=True)
class PackedSample:
    """One sample, encoded. `metadata` has the fields of segkit.metadata.FIELDS, and perhaps more."""

    jpg: bytes
    png: bytes
    conf_png: bytes
    metadata: Mapping[str, Any]
    original: tuple[bytes, bytes] | None = None  # orig.jpg and orig.png of a pair

    @property
    def key(self) -> str:
        return str(self.metadata["key"])


@dataclasses.dataclass(frozen=True, slots=True)
class WrittenShard:
    """What was written."""

    num_samples: int
    num_bytes: int
    sha256: str


def write_shard(path: Path, samples: Iterable[PackedSample]) -> WrittenShard:
    """Write samples as they come, one in memory at a time, to a temporary name; sync; rename. On any error
    nothing is left behind.

    Raises InputError for a key that loaders would split or renumber, for keys that do not ascend, and for
    metadata that is no flat JSON; StorageError if the disk is full or read-only.
    """
    temporary = temporary_beside(path)
    digest, num_bytes, num_samples, last = hashlib.sha256(), 0, 0, ""
    try:
        with temporary.open("wb") as file:
            for sample in samples:
                if not is_key(sample.key):
                    raise InputError(f"{path.name}: key {sample.key!r} must be {KEY_FORM}")
                if sample.key <= last:
                    raise InputError(
                        f"{path.name}: key {sample.key!r} follows {last!r}; keys must ascend and be unique"
                    )
                last = sample.key
                data = _tar_of(sample)
                num_bytes += file.write(data)
                digest.update(data)
                num_samples += 1
            end = bytes(2 * BLOCK)
            end += padding(num_bytes + len(end), RECORD)
            num_bytes += file.write(end)
            digest.update(end)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StorageError(
            f"{path}: not written ({error.strerror or error}); free space or mend permissions, then rerun"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return WrittenShard(num_samples, num_bytes, digest.hexdigest())


def _tar_of(sample: PackedSample) -> bytes:
    contents = (sample.jpg, sample.png, sample.conf_png, metadata_bytes(sample.metadata), *(sample.original or ()))
    members = MEMBERS + ORIGINAL_MEMBERS if sample.original else MEMBERS
    return b"".join(
        member_header(f"{sample.key}.{field}", len(data)) + data + padding(len(data))
        for field, data in zip(members, contents, strict=True)
    )
