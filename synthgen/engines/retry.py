"""What is done about a unit that raises an error:

too little GPU memory halves the batch, another error finds the sample that causes it.

The rows of a failed unit are taken one by one, each a bounded number of times; one that fails every time is a Rejected
`failed` that names the error, and the others are made as ever: a result depends on its own row only. If every row
fails, the fault is not the samples': the error is raised as it is. So a broken installation rejects nothing.
"""

from __future__ import annotations

import errno
import gc
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from synthgen import runner
from synthgen.errors import ModelError, RunError, StorageError, in_one_line
from synthgen.records import Rejected
from synthgen.runner import FAILED, Stage, StageRun, Unit

# what a model or a library may raise over one sample; what a user can mend (SynthgenError) is told at once
FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
# of network file systems
PASSING = (errno.EAGAIN, errno.EINTR, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.ENOTCONN)
PAUSE_S = 1.0
MOST_DETAIL = 300  # characters of an error that a rejected row keeps

Tell = Callable[..., None]


def attempt(
    stage: StageRun, unit: Unit, processor: Stage, rows: Sequence[Any], *, retries: int, by_row: bool, tell: Tell
) -> tuple[int, int]:
    """Do and commit a unit in spite of passing faults and of samples that cannot be done.

    Returns how many rows were made and refused.

    `by_row` says that the stage's rows are independent. `tell(event, **facts)` hears of every retry. Raises what keeps
    failing.
    """
    for number in range(retries + 1):
        try:
            return _within_memory(stage, unit, processor, rows, tell)
        except StorageError as error:
            cause = error.__cause__
            if number == retries or not isinstance(cause, OSError) or cause.errno not in PASSING:
                raise
            tell("retry", unit=unit.name, error=_short(error))
        except FAULTS as error:
            _refuse_lost_gpu(stage, unit, error)
            if not (by_row and rows) and number == retries:
                _explain(stage, unit, error)
                raise
            tell("retry", unit=unit.name, error=_short(error))
            if by_row and rows:
                break
        time.sleep(PAUSE_S * number)
    return runner.run_unit(stage, unit, OneByOne(stage, unit, processor, retries, tell), rows)


class OneByOne:
    """A stage that does its rows one at a time and rejects those that fail every time."""

    def __init__(self, stage: StageRun, unit: Unit, processor: Stage, retries: int, tell: Tell) -> None:
        self._stage = stage
        self._unit = unit
        self._processor = processor
        self._tries = max(1, retries)
        self._tell = tell

    def process(self, rows: Sequence[Any], folder: Path, unit: str) -> Iterator[Any]:
        """What the rows give, in their order.

        Raises the last error if no row could be done, unless that is no surprise: one row alone, or rows that have
        failed before, of a stage which has made others.
        """
        failures: dict[Any, str] = {}
        last: Exception | None = None
        for row in rows:
            try:
                yield from self._row(row, folder, unit)
            except FAULTS as error:
                _refuse_lost_gpu(self._stage, self._unit, error)
                failures[row.key], last = _short(error), error
        expected = len(rows) == 1 or self._unit.keys
        if last is not None and len(failures) == len(rows) and not (expected and self._stage.num_rows()):
            _explain(self._stage, self._unit, last)
            raise last
        for key, detail in failures.items():
            self._tell("failed_sample", unit=unit, key=key, error=detail)
            yield Rejected(key, key, self._stage.name, FAILED, detail, 0.0)

    def _row(self, row: Any, folder: Path, unit: str) -> list[Any]:
        """A row's results; its files come into `folder` only if it could be done."""
        apart = folder / ".row"
        for last in (number == self._tries - 1 for number in range(self._tries)):
            apart.mkdir()
            try:
                found = list(self._processor.process([row], apart, unit))
                for path in apart.iterdir():
                    path.rename(folder / path.name)
                return found
            except FAULTS:
                if last:
                    raise
            finally:
                shutil.rmtree(apart)
        raise RuntimeError("no try was made")


def _within_memory(stage: StageRun, unit: Unit, processor: Any, rows: Sequence[Any], tell: Tell) -> tuple[int, int]:
    """run_unit with a batch that is halved, for this process's later units too, until it fits the GPU."""
    while True:
        try:
            return runner.run_unit(stage, unit, processor, rows)
        except RuntimeError as error:
            size = getattr(processor, "batch_size", 1)
            if not is_out_of_memory(error) or size <= 1:
                raise
            processor.batch_size = size // 2
            tell("smaller_batch", unit=unit.name, batch_size=processor.batch_size, error=_short(error))
        _free_memory()  # after the handler: the traceback held the batch's tensors


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch found no more memory on a device. torch is not imported for it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def _free_memory() -> None:
    gc.collect()
    torch = sys.modules["torch"]
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _explain(stage: StageRun, unit: Unit, error: Exception) -> None:
    """Raise a clear line instead where a user can do something."""
    if is_out_of_memory(error):
        raise ModelError(
            f"{stage.name} unit {unit.name}: out of GPU memory with one image at a time; make smaller images, "
            "set execution.offload=model or a "
            "smaller dtype, or use a larger GPU"
        ) from error


def _refuse_lost_gpu(stage: StageRun, unit: Unit, error: Exception) -> None:
    """After an error of the device itself every later call of this process fails, so no sample may be blamed for it."""
    if "CUDA error" in str(error) or type(error).__name__ == "AcceleratorError":
        raise RunError(
            f"{stage.name} unit {unit.name}: the GPU has failed ({_short(error)[:120]}); run the same command "
            "again, a new process can use it again"
        ) from error


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {in_one_line(error, MOST_DETAIL)}"[:MOST_DETAIL]
