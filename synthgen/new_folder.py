"""A folder that a command fills and that holds everything or nothing: written within it, under a hidden name."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from synthgen.errors import StorageError
from synthgen.files import host_name, is_alive, scratch_beside

_NAME = "unfinished"


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Where to write what `out` holds once the block has ended; if it raises, `out` is as it was.

    `out` may be there and empty, as what a container mounts is. What a killed process of this machine has left of it is
    removed. Raises StorageError if it holds anything else, if another process fills it, or if it cannot be made.
    """
    was_there = out.exists()
    if was_there and (not out.is_dir() or not all(_is_left_over(path) for path in out.iterdir())):
        raise StorageError(f"{out}: exists and is not empty; give a new folder")
    work = scratch_beside(out / _NAME)
    try:
        for path in list(out.iterdir()) if was_there else ():
            shutil.rmtree(path)
        work.mkdir(parents=True)
    except OSError as error:
        raise StorageError(f"{out}: cannot be made ({error.strerror})") from error
    try:
        yield work
        for path in sorted(work.iterdir()):
            path.rename(out / path.name)
        work.rmdir()
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        if not was_there:
            with contextlib.suppress(OSError):
                out.rmdir()
        raise


def _is_left_over(path: Path) -> bool:
    """Whether a process of this machine that is no more was filling it. Raises StorageError if one still is."""
    parts = path.name.split(".")
    if len(parts) != 4 or parts[:2] != ["", _NAME] or not parts[3].isdecimal() or not path.is_dir():
        return False
    if parts[2] != host_name() or is_alive(int(parts[3])):
        raise StorageError(
            f"{path.parent}: process {parts[3]} of {parts[2]} is filling it; wait for it, or remove {path.name} there "
            "if it is no more"
        )
    return True
