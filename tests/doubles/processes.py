"""Work for worker processes, in a module that costs nothing to import, and ways to watch processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synthgen.engines import local
from synthgen.errors import RunError
from synthgen.runner import Unit

TESTS = Path(__file__).resolve().parent.parent
UNITS = [Unit(f"{number:05d}", number, number + 1) for number in range(4)]


def environment(**more: str) -> dict[str, str]:
    """That of this process, with the doubles importable."""
    return {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}", "PYTHONDONTWRITEBYTECODE": "1", **more}


def work(folder: Path, unit: Unit, fails: str = "", dies: str = "", lives: int = 0) -> tuple[int, int]:
    """Leaves a file that names its process. `dies` is killed at each try, or until it has died `lives` times."""
    if unit.name == fails:
        raise RunError(f"{unit.name} cannot be done")
    deaths = len(list(folder.glob(".died.*")))
    if unit.name == dies and (not lives or deaths < lives):
        (folder / f".died.{deaths}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / unit.name).write_text(str(os.getpid()))
    return unit.start, 1


def endless(folder: Path, unit: Unit) -> tuple[int, int]:
    """Leaves a file that names its process, and does not come back."""
    work(folder, Unit(f".{unit.name}", 0, 0))
    (folder / f".{unit.name}").rename(folder / f"{unit.name}.pid")
    time.sleep(600)
    return 0, 0


def alive(pid: int) -> bool:
    """Whether a process runs; a dead one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def waited(found: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true value of `found()`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := found():
            return value
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def numbered(folder: Path, unit: Unit) -> tuple[int, int]:
    """A unit that notes which of its pool's workers has done it."""
    time.sleep(0.05)
    (folder / unit.name).write_text(str(local.worker_number()))
    return 1, 0
