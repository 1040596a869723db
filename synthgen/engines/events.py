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

FOLDER = "events"


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


def read_events(run: Path) -> Iterator[dict[str, Any]]:
    """Every whole line of every process, process by process."""
    for path in sorted((run / FOLDER).glob("*.jsonl")):
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                with contextlib.suppress(json.JSONDecodeError):
                    body = json.loads(line)
                    if isinstance(body, dict) and "event" in body:
                        yield body


def gpu_memory_gb() -> float:
    """The most GPU memory that this process has held, in GiB; 0 without a GPU. torch is not imported for it."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "cuda") or not torch.cuda.is_initialized():
        return 0.0
    return round(torch.cuda.max_memory_allocated() / 2**30, 2)
