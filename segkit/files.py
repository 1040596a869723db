"""Opens regular files only: a FIFO would hang, a device never ends, a folder has no bytes.

The size is known and compared before a byte is read.
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

from segkit.errors import DataError, InputError, UserError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def open_regular(path: Path, error: type[UserError] = InputError) -> io.BufferedReader:
    """The file, opened for reading; a link is followed. Raises `error` for one that is missing, not readable or no
    regular file: such a path is never opened, or closed before it could block."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            # without O_NONBLOCK, what became a pipe between the two calls would hang
            file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode):
                return file
            file.close()
    except FileNotFoundError as reason:
        raise error(f"{path}: no such file") from reason
    except OSError as reason:
        raise error(f"{path}: cannot be read ({reason.strerror or reason})") from reason
    except ValueError as reason:  # a zero byte in the name
        raise error(f"{path!r}: cannot be read ({reason})") from reason
    kind = next((kind for is_kind, kind in _KINDS if is_kind(mode)), "no regular file")
    raise error(f"{path}: is {kind}, must be a regular file")


def read_regular(path: Path, max_bytes: int, error: type[UserError] = DataError) -> bytes:
    """All bytes of a regular file. Raises `error` as `open_regular` does, and for more than `max_bytes`."""
    with open_regular(path, error) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise error(f"{path}: has {size} bytes; at most {max_bytes} are read")
        try:
            data = file.read(max_bytes + 1)
        except OSError as reason:
            raise error(f"{path}: cannot be read ({reason.strerror or reason})") from reason
    if len(data) > max_bytes:  # it grew, or its size was not told: /proc
        raise error(f"{path}: has more than {max_bytes} bytes; no more are read")
    return data


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
