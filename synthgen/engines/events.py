"""What happened in a run, for people and for `synthgen status`:

one JSON object a line in `events/<host>.<pid>.jsonl` of the run folder.

Every process has a file of its own, so nobody waits for anybody and lines are never torn. Nothing in a run depends on
the log: a line that cannot be written is left out, one that cannot be read is skipped, and the folder may be deleted at
any time.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from segkit.documents import parse_json
from segkit.errors import InputError
from segkit.files import open_regular

FOLDER = "events"
MAX_LINE_BYTES = 2**20
_FACTS = {  # of which types the facts are that are worked with
    "stage": (str,),
    "unit": (str,),
    "host": (str,),
    "gpu_gb": (float, int),
    "seconds": (float, int),
    "made": (int,),
    "refused": (int,),
    "pid": (int,),
    "rank": (int,),
}


def write_event(run: Path, event: str, **facts: Any) -> None:
    """Append one line. `event` is `unit` (finished), `retry`, `smaller_batch`, `failed_sample` or `lost_worker`."""
    body = {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "event": event,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "rank": int(os.environ.get("RANK", "0")),
        **facts,
    }
    with contextlib.suppress(OSError):
        (run / FOLDER).mkdir(exist_ok=True)
        with (run / FOLDER / f"{body['host']}.{body['pid']}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(body) + "\n")


class EventLog:
    """The events of a run, each read once: `new` gives those that came since it was last asked.

    Nothing in the folder can end a run: what is no regular file, no line of JSON or no event is passed over, and so is
    a known fact of another type than it should have.
    """

    def __init__(self, run: Path) -> None:
        self._folder = run / FOLDER
        self._read_bytes: dict[Path, int] = {}

    def new(self) -> Iterator[dict[str, Any]]:
        """Every whole line that was not given before, process by process."""
        for path in sorted(self._folder.glob("*.jsonl")):
            with contextlib.suppress(InputError, OSError):
                for line in self._new_lines(path):
                    event = _event_of(line)
                    if event is not None:
                        yield event

    def _new_lines(self, path: Path) -> Iterator[bytes]:
        with open_regular(path) as file:
            if file.seek(0, os.SEEK_END) < self._read_bytes.get(path, 0):
                self._read_bytes[path] = 0  # another file of that name
            file.seek(self._read_bytes.get(path, 0))
            while line := file.readline(MAX_LINE_BYTES):
                if len(line) < MAX_LINE_BYTES and not line.endswith(b"\n"):
                    return  # is being written, or was cut by a kill
                self._read_bytes[path] = self._read_bytes.get(path, 0) + len(line)
                yield line


def read_events(run: Path) -> Iterator[dict[str, Any]]:
    """Every event of a run, as `EventLog` gives them: `event` is a text, the facts of _FACTS have their types."""
    return EventLog(run).new()


def _event_of(line: bytes) -> dict[str, Any] | None:
    try:
        body = parse_json(line, "event")
    except InputError:
        return None
    if not isinstance(body, dict) or not isinstance(body.get("event"), str):
        return None
    return {name: value for name, value in body.items() if type(value) in _FACTS.get(name, (type(value),))}


def gpu_memory_gb() -> float:
    """The most GPU memory that this process has held, in GiB; 0 without a GPU. torch is not imported for it."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "cuda") or not torch.cuda.is_initialized():
        return 0.0
    return round(torch.cuda.max_memory_allocated() / 2**30, 2)
