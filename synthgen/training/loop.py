"""The training loop of every generator: budgeted, resumable, the same on CPU and GPU and over processes.

The learning rate follows the share of the budget (of time or of steps) that is spent: warm-up by steps, flat, then
cosine, so that a run of any length ends annealed. A batch is a function of (seed, step, rank) alone, so a resumed run
sees the batches that an undisturbed one would have seen.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast

from synthgen.errors import InputError, ModelError, StorageError, in_one_line
from synthgen.training.precision import mixed_precision

LOG_S = 20.0  # between two lines of the log
BatchOf = Callable[[np.random.Generator, int], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast: either `minutes` or `steps`, each counting all the runs of a resumed training together.

    Raises ValueError unless exactly one of the two is above 0.
    """

    batch_size: int  # of one process
    learning_rate: float
    minutes: float = 0.0
    steps: int = 0
    seed: int = 0
    warmup_steps: int = 100
    flat: float = 0.35  # share of the budget before the cosine begins
    ema: float = 0.998  # 0 = no average: the weights themselves are the result
    weight_decay: float = 0.01
    clip: float = 1.0  # norm to which gradients are cut
    accumulate: int = 1  # batches whose gradients make one step
    betas: tuple[float, float] = (0.9, 0.98)
    eight_bit: bool = False  # AdamW of bitsandbytes
    checkpoint_s: float = 60.0
    threads: int = 0  # torch CPU threads of a process; 0 = leave as is

    def __post_init__(self) -> None:
        if (self.minutes > 0) == (self.steps > 0):
            raise ValueError(f"minutes = {self.minutes:g}, steps = {self.steps}: give one of them")

    def share_spent(self, step: int, elapsed_s: float) -> float:
        """Of the budget, after `step` steps and so many seconds; 1 or more = it is spent."""
        return step / self.steps if self.steps else elapsed_s / (60 * self.minutes)

    def rate_at(self, step: int, spent: float) -> float:
        """Learning rate at a step with the share `spent` of the budget gone, in [0, 1]."""
        warm = min(1.0, (step + 1) / self.warmup_steps)
        down = max(0.0, spent - self.flat) / (1 - self.flat) if self.flat < 1 else 0.0
        return self.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, down))))


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """A step that was just made. `of` is their number, 0 where the budget is one of time."""

    number: int
    of: int
    elapsed_s: float  # of all runs of a resumed training together
    losses: dict[str, float]


def train(
    objective: torch.nn.Module,
    batch_of: BatchOf,
    schedule: Schedule,
    out: Path,
    start_weights: dict[str, torch.Tensor] | None = None,
    watch: Callable[[Step], None] | None = None,
) -> dict[str, Any]:
    """Train `objective` (its forward takes a batch and returns a dict of scalar losses with the key "loss") until the
    budget is spent.

    `batch_of(rng, batch_size)` gives one process's batch on the CPU. Writes `checkpoint.pt` (resumed from if present),
    `log.jsonl` and leaves the averaged (EMA) weights in `objective`. `watch` is told of every step on the main process;
    without it the log is printed as well. Returns what the model card needs: steps, samples, hours.

    Raises StorageError if a checkpoint cannot be written; the one before it stays.
    """
    if schedule.threads:
        torch.set_num_threads(schedule.threads)
    out.mkdir(parents=True, exist_ok=True)
    if start_weights is not None:
        objective.load_state_dict(start_weights)
    training = _Training(objective, schedule, out)
    training.resume()
    log = _Log(out / "log.jsonl", printed=watch is None)
    saved = time.monotonic()
    while (spent := training.share_spent()) < 1:
        losses = training.step(batch_of, spent)
        if training.accelerator.is_main_process:
            log.add(training.steps, training.elapsed_s, losses)
            if watch is not None:
                watch(Step(training.steps, schedule.steps, training.elapsed_s, losses))
        if time.monotonic() - saved > schedule.checkpoint_s:
            training.save()
            saved = time.monotonic()
    training.save()
    training.use_average()
    return {"steps": training.steps, "samples": training.samples, "hours": round(training.elapsed_s / 3600, 3)}


class _Training:
    """Weights, their running average, optimiser and counters of one training."""

    def __init__(self, objective: torch.nn.Module, schedule: Schedule, out: Path) -> None:
        # a ControlNet leaves the text side of its last block without a gradient: a fault to DDP unless it is told
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        cpu = not torch.cuda.is_available()
        precision = mixed_precision("cpu" if cpu else "cuda")
        self.accelerator = Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=[unused])
        self.steps, self.samples, self.elapsed_s = 0, 0, 0.0
        self._objective = objective
        self._schedule = schedule
        self._checkpoint = out / "checkpoint.pt"
        self._trainable = {name: p for name, p in objective.named_parameters() if p.requires_grad}
        optimiser = _adamw(schedule)(
            self._trainable.values(),
            lr=schedule.learning_rate,
            betas=schedule.betas,
            weight_decay=schedule.weight_decay,
        )
        self._model, self._optimiser = self.accelerator.prepare(objective, optimiser)
        self._trainable = {name: p for name, p in objective.named_parameters() if p.requires_grad}
        self._average = {name: p.detach().clone() for name, p in self._trainable.items()} if schedule.ema else {}
        self._model.train()
        self._began = time.monotonic()

    def resume(self) -> None:
        """Go on from `checkpoint.pt` if there is one."""
        if not self._checkpoint.is_file():
            return
        state = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
        strange = self._objective.load_state_dict(state["model"], strict=False)
        if strange.unexpected_keys or any(name in self._trainable for name in strange.missing_keys):
            raise InputError(f"{self._checkpoint}: is of another training; move it away, or give another folder")
        self._optimiser.load_state_dict(state["optimiser"])
        self._average = {name: value.to(self.accelerator.device) for name, value in state["average"].items()}
        self.steps, self.samples, self.elapsed_s = state["step"], state["samples"], state["elapsed"]
        self._began = time.monotonic() - self.elapsed_s
        budget = f"{self._schedule.steps} steps" if self._schedule.steps else f"{self._schedule.minutes:g} minutes"
        self.accelerator.print(f"resumed at step {self.steps}, {self.elapsed_s / 60:.1f} minutes spent, of {budget}")

    def save(self) -> None:
        """Write `checkpoint.pt` on the main process."""
        if not self.accelerator.is_main_process:
            return
        frozen = {name for name, p in self._objective.named_parameters() if not p.requires_grad}
        state = {
            "model": {name: value for name, value in self._objective.state_dict().items() if name not in frozen},
            "optimiser": self._optimiser.state_dict(),
            "average": self._average,
            "step": self.steps,
            "samples": self.samples,
            "elapsed": self.elapsed_s,
        }
        temporary = self._checkpoint.with_suffix(".tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._checkpoint)
        except (OSError, RuntimeError) as error:  # torch tells a full disk as either
            temporary.unlink(missing_ok=True)
            raise StorageError(
                f"{self._checkpoint}: cannot be written ({in_one_line(error, 100)}); free the space, then run the same "
                "command again"
            ) from error

    def share_spent(self) -> float:
        """Of the budget. Every process follows one clock, or their learning rates, and so their weights, would drift
        apart.
        """
        elapsed_s = torch.tensor(time.monotonic() - self._began, device=self.accelerator.device, dtype=torch.float32)
        self.elapsed_s = float(broadcast(elapsed_s))
        return self._schedule.share_spent(self.steps, self.elapsed_s)

    def step(self, batch_of: BatchOf, spent: float) -> dict[str, float]:
        """One step of the optimiser and of the average; the losses before it, and the learning rate as `rate`."""
        schedule = self._schedule
        rate = schedule.rate_at(self.steps, spent)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        rng = np.random.default_rng((schedule.seed, self.steps, self.accelerator.process_index))
        torch.manual_seed(int(rng.integers(2**62)))
        sums: dict[str, float] = {}
        for number in range(schedule.accumulate):
            last = number == schedule.accumulate - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self._model):
                losses = self._model(batch_of(rng, schedule.batch_size))
                self.accelerator.backward(losses["loss"] / schedule.accumulate)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / schedule.accumulate
        self.accelerator.clip_grad_norm_(list(self._trainable.values()), schedule.clip)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self.steps += 1
        self.samples += schedule.batch_size * schedule.accumulate * self.accelerator.num_processes
        decay = min(schedule.ema, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for name, average in self._average.items():
                average.lerp_(self._trainable[name], 1 - decay)
        return {"rate": rate, **sums}

    def use_average(self) -> None:
        """The averaged weights into the objective, if there are any; in evaluation mode."""
        with torch.no_grad():
            for name, average in self._average.items():
                self._trainable[name].copy_(average)
        self._objective.eval()


def _adamw(schedule: Schedule) -> Any:
    """The optimiser's class. Raises ModelError in one line where 8 bits cannot be had."""
    if not schedule.eight_bit:
        return torch.optim.AdamW
    if importlib.util.find_spec("bitsandbytes") is None or not torch.cuda.is_available():
        raise ModelError(
            "eight_bit_adam needs a CUDA GPU and the package bitsandbytes (pip install 'synthgen-seg[quantise]'); "
            "leave it off, or set a lora_rank instead"
        )
    return importlib.import_module("bitsandbytes.optim").AdamW8bit


class _Log:
    """A line each LOG_S seconds, in the file and, if so wished, on the terminal: means over the steps since the last
    one.
    """

    def __init__(self, path: Path, printed: bool) -> None:
        self._path, self._printed = path, printed
        self._sums: dict[str, float] = {}
        self._count = 0
        self._written = time.monotonic()

    def add(self, step: int, elapsed_s: float, losses: dict[str, float]) -> None:
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if time.monotonic() - self._written <= LOG_S:
            return
        means = {name: round(value / self._count, 7) for name, value in self._sums.items()}
        row = {"step": step, "minutes": round(elapsed_s / 60, 2), **means}
        with self._path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")
        if self._printed:
            print(row, flush=True)
        self._sums, self._count, self._written = {}, 0, time.monotonic()
