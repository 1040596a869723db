"""Temporary folders in which this process keeps its copy of a run folder on an object store."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from pathlib import Path

from synthgen.files import host_name, is_alive

_COPY = re.compile(r"synthgen-copy\.(?P<host>[^.]+)\.(?P<pid>\d+)\..+")


def new() -> Path:
    """A new folder that is removed when this process ends; those of dead processes of this machine are removed now."""
    _sweep_copies()
    folder = Path(tempfile.mkdtemp(prefix=f"synthgen-copy.{host_name()}.{os.getpid()}."))
    atexit.register(_remove_own, folder, os.getpid())
    return folder


def _sweep_copies() -> None:
    """Remove the copies of dead processes of this machine: the store has all that they had finished."""
    for path in Path(tempfile.gettempdir()).glob(f"synthgen-copy.{host_name()}.*"):
        found = _COPY.fullmatch(path.name)
        if found and not is_alive(int(found["pid"])):
            shutil.rmtree(path, ignore_errors=True)


def _remove_own(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # a forked worker ends too
        shutil.rmtree(folder, ignore_errors=True)
