"""One process at a time in a folder: a `.lock` that is gone when the process has ended, however it ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from segtrain.errors import RunError

LOCK = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def only_process_in(folder: Path, doing: str) -> Iterator[None]:
    """Make the folder if need be and hold its lock while the block runs.

    Raises RunError, with what the other one is `doing`, if a process holds it; and for what is no folder.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _locked(path)
    except BlockingIOError as error:
        raise RunError(f"{folder}: another process is {doing} here: wait for it, or choose another folder") from error
    except OSError as error:
        raise RunError(f"{folder}: cannot be used as a folder: {error.strerror}") from error
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _locked(path: Path) -> BinaryIO:
    """The lock's file, locked. Raises BlockingIOError if somebody else holds it."""
    while True:
        file = path.open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = os.fstat(file.fileno())
            # who held it may have removed it between the two calls: what is locked then is no file of this folder
            if path.exists() and os.path.samestat(held, path.stat()):
                return file
        except OSError as error:
            if error.errno in _NO_LOCKS:  # some network file systems have none: the mark of the folder must do there
                return file
            file.close()
            raise
        file.close()
