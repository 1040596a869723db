"""Who is at work on a unit, told by the hidden scratch beside its place: `.<unit>.<host>.<process>`.

The scratch is the lease: a second launch on the same run folder leaves taken units to their holders, and takes over
what a dead one has left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from synthgen.files import host_name, is_alive

LEASE_S = 120.0  # scratch of another machine in which nothing has changed for so long is given up
POLL_S = 0.2


def sweep(folder: Path) -> None:
    """Remove the scratch of dead processes of this machine from a stage's folder. Finished units are never touched."""
    for entry in folder.glob(f".*.{host_name()}.*"):
        pid = entry.name.rpartition(".")[2]
        if pid.isdigit() and not is_alive(int(pid)):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    entry.unlink()


def is_taken(folder: Path, unit: str) -> bool:
    """Whether another process has scratch of this unit:

    it is at work on it, or has died on a machine that cannot be seen from here.
    """
    return bool(_leases(folder, [unit]))


def wait_for_others(
    folder: Path, units: Sequence[str], is_done: Callable[[str], bool], lease_s: float = LEASE_S
) -> list[str]:
    """Wait for units that others have taken. Returns those whose lease has ended without a result: the holder is gone,
    or has left its scratch unchanged for `lease_s`. Ages are this process's own monotonic time, so no clock of any
    machine matters.
    """
    seen: dict[Path, tuple[Any, float]] = {}
    while True:
        left = [unit for unit in units if not is_done(unit)]
        now = time.monotonic()
        leases = _leases(folder, left)
        for path in leases:
            found = _signature(path)
            if path not in seen or seen[path][0] != found:
                seen[path] = found, now
        held = {_unit_of(path) for path in leases if now - seen[path][1] < lease_s}
        if not left or any(unit not in held for unit in left):
            return [unit for unit in left if unit not in held]
        time.sleep(POLL_S)


def _leases(folder: Path, units: Collection[str]) -> list[Path]:
    """Scratch of these units that is neither this process's nor a dead process's of this machine."""
    host = host_name()
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            unit, _, holder = entry.name[1:].partition(".")
            machine, _, pid = holder.rpartition(".")
            if not entry.name.startswith(".") or unit not in units or not pid.isdigit():
                continue
            if machine != host or (int(pid) != os.getpid() and is_alive(int(pid))):
                found.append(folder / entry.name)
    return found


def _unit_of(scratch: Path) -> str:
    return scratch.name[1:].partition(".")[0]


def _signature(scratch: Path) -> Any:
    """Changes when a file of the scratch is made or grows."""
    try:
        return sorted((entry.name, entry.stat().st_size) for entry in os.scandir(scratch))
    except OSError:
        return None
