"""`python -m benchmarks.run fuzz/`: damages what the readers read and counts what comes of it.

A case is a file that is damaged at random, or one that is known to be wrong. It is a traceback if the reader raises
anything but the one-line errors that people see, a hang if it takes more than CPU_S of a core or REAL_S, silent if it
reads what is known to be wrong, or reads something else than what is there, without a word. The same seed gives the
same cases.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import fuzz_documents, fuzz_files
from benchmarks.row import Row
from segkit.errors import UserError
from synthgen.prompts.chat_http import NotChatError

CPU_S, REAL_S = 10.0, 120.0
COUNTS = {
    "recipe": 1200,
    "label_space": 1500,
    "event_log": 1200,
    "index": 1200,
    "coco": 1200,
    "chat_server": 1500,
    "model_folder": 1000,
    "tar": 900,
    "png": 2500,
}
NAMES = {name: tuple(f"fuzz/{name}_{what}" for what in ("cases", "tracebacks", "hangs", "silent")) for name in COUNTS}


@dataclasses.dataclass(frozen=True, slots=True)
class Reader:
    """`cases(rng)` never ends; `read` reads one of them from a folder; `is_silent(case, value)` says whether what came
    of it, without an error, should not have come."""

    cases: Callable[[np.random.Generator], Iterator[Any]]
    read: Callable[[Any], Any]
    is_silent: Callable[[Any, Any], bool]


class _Hang(BaseException):
    """The alarm."""


def rows(name: str) -> Iterator[Row]:
    """fuzz/<reader>_{cases,tracebacks,hangs,silent} of one reader; prints the first cases that went wrong."""
    number = COUNTS[name]
    found = count(name, number)
    yield Row(f"fuzz/{name}_cases", number, "damaged or hostile inputs")
    for what in ("tracebacks", "hangs", "silent"):
        yield Row(f"fuzz/{name}_{what}", found[what], "of them", n=number)


# what benchmarks/run.py calls, by the names of the readers
recipe, label_space, event_log, index, coco, chat_server, model_folder, tar, png = (
    functools.partial(rows, name) for name in COUNTS
)


def count(name: str, number: int, seed: int = 0) -> Counter[str]:
    """How many of `number` cases of a reader ended as `tracebacks`, `hangs`, `silent`, `refused` or `read`."""
    found: Counter[str] = Counter()
    logging.disable(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            reader = Reader(*(fuzz_documents.READERS | fuzz_files.READERS)[name](Path(scratch)))
            for _, case in zip(range(number), reader.cases(np.random.default_rng(seed)), strict=False):
                what, told = _outcome(reader, case)
                found[what] += 1
                if told and found[what] <= 3:
                    print(f"  {name}: {what}: {told}", flush=True)
    finally:
        logging.disable(logging.NOTSET)
    return found


def _outcome(reader: Reader, case: Any) -> tuple[str, str]:
    """(what came of it, what to print of that)."""
    try:
        with _alarm():
            value = reader.read(case)
            silent = reader.is_silent(case, value)
    except _Hang:
        return "hangs", repr(case)[:300]
    except (UserError, NotChatError) as error:
        line = str(error)
        return ("refused", "") if "\n" not in line else ("tracebacks", f"several lines: {line[:300]!r}")
    except Exception:  # noqa: BLE001  # whatever else it raises is what is looked for
        return "tracebacks", f"{traceback.format_exc(limit=-3)[-500:]} for {repr(case)[:300]}"
    return ("silent", repr(case)[:300]) if silent else ("read", "")


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    def ring(number: int, frame: object) -> None:
        raise _Hang

    timers = ((signal.ITIMER_PROF, signal.SIGPROF, CPU_S), (signal.ITIMER_REAL, signal.SIGALRM, REAL_S))
    for timer, name, limit_s in timers:
        signal.signal(name, ring)
        signal.setitimer(timer, limit_s)
    try:
        yield
    finally:
        for timer, _, _ in timers:
            signal.setitimer(timer, 0)
