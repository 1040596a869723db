"""Files that exist whole or not at all: written under a hidden name beside their place, synced, renamed."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import socket
from collections.abc import Collection, Iterable
from pathlib import Path

from synthgen.errors import StorageError

_WAY_OUT = "free the space or mend the permissions, then run the same command again"
_FIRST_PID_NAMESPACE = 0xEFFFFFFC  # the machine's own (Linux: PROC_PID_INIT_INO)
_UNFINISHED = re.compile(r"\.(?P<name>.+)\.(?P<host>[^.]+)\.(?P<pid>\d+)\.tmp")


def temporary_beside(path: Path) -> Path:
    """The hidden name for what this process is writing to `path`;

    tells its owner, so that `sweep_unfinished` knows what is left over.
    """
    return path.with_name(f"{scratch_beside(path).name}.tmp")


def scratch_beside(path: Path) -> Path:
    """The hidden name under which this process makes `path`; tells its owner (synthgen/leases.py)."""
    return path.with_name(f".{path.name}.{host_name()}.{os.getpid()}")


def host_name() -> str:
    """This machine's full name, its dots as dashes: the parts of a hidden file's name are told apart by dots.

    In a container the number of its process ids' namespace follows: containers may share a name (`--network host`), and
    each has a process 1.
    """
    name = socket.gethostname().replace(".", "-") or "localhost"
    try:
        space = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:  # no Linux
        return name
    return name if space == _FIRST_PID_NAMESPACE else f"{name}-{space}"


def file_digest(path: Path) -> str:
    """32 hex digits of a file's bytes. A file that has the size and time that it had before is not read again in this
    process: the settings of each stage ask for the digests of the whole input.
    """
    facts = path.stat()
    return _digest_of(path, facts.st_size, facts.st_mtime_ns, facts.st_ino)


@functools.lru_cache(maxsize=2**17)
def _digest_of(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def sha256_of(path: Path) -> str:
    """64 hex digits of a file's bytes, read anew each time: an index says of its shards what must be there now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(data: bytes, path: Path, way_out: str = _WAY_OUT) -> None:
    """Write whole or not at all. Raises StorageError in one line, with the way out, if the disk is full or
    read-only."""
    write_chunks((data,), path, way_out)


def write_chunks(chunks: Iterable[bytes], path: Path, way_out: str = _WAY_OUT) -> None:
    """As `write_bytes`, of what need not fit into memory."""
    temporary = temporary_beside(path)
    try:
        with temporary.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StorageError(f"{path}: cannot be written ({error.strerror or error}); {way_out}") from error
    except BaseException:  # what the chunks are made of is broken, or Ctrl-C
        temporary.unlink(missing_ok=True)
        raise


def unfinished_name(name: str) -> str | None:
    """Of which file this is an unfinished one; None if it is none."""
    found = _UNFINISHED.fullmatch(name)
    return found["name"] if found else None


def sweep_unfinished(folder: Path, names: Collection[str]) -> None:
    """Remove what dead processes of this machine have left half-written of the named files.

    Living processes and other machines keep theirs.
    """
    for path in folder.iterdir():
        found = _UNFINISHED.fullmatch(path.name)
        if found and found["name"] in names and found["host"] == host_name() and not is_alive(int(found["pid"])):
            with contextlib.suppress(OSError):
                path.unlink()


def is_alive(pid: int) -> bool:
    """Whether a process of this machine has this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_text(text: str, path: Path) -> None:
    """Write whole or not at all, making the folder. Raises StorageError in one line, with the way out."""
    _write(text, path, _WAY_OUT)


def _write(content: str | bytes, path: Path, way_out: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error}); {way_out}") from error
    write_bytes(content.encode() if isinstance(content, str) else content, path, way_out)


def write_first(content: str | bytes, path: Path) -> bool:
    """Write whole, unless the file is there, below a run folder: of several writers exactly one wins.

    Raises StorageError as `write_text` does.
    """
    candidate = scratch_beside(path)
    way_out = "free the space, mend the permissions or choose another place with --runs"
    _write(content, candidate, way_out)
    try:
        os.link(candidate, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links: the window between look and rename is all that is left open
        if path.exists():
            return False
        _write(content, path, way_out)
    finally:
        candidate.unlink(missing_ok=True)
    return True
