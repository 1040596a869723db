"""The training loop of every generator: budgeted, resumable, the same on CPU and GPU and over processes.

The learning rate follows the share of the budget (of time or of steps) that is spent: warm-up by steps, flat, then
cosine, so that a run of any length ends annealed. A batch is a function of (seed, step, rank) alone, so a resumed run
sees the batches that an undisturbed one would have seen.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast

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
    ema: float = 0.998
    weight_decay: float = 0.01
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
        down = max(0.0, spent - self.flat) / (1 - self.flat)
        return self.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, down))))


def train(
    objective: torch.nn.Module,
    batch_of: BatchOf,
    schedule: Schedule,
    out: Path,
    start_weights: dict[str, torch.Tensor] | None = None,
) -> dict[str, Any]:
    """Train `objective` (its forward takes a batch and returns a dict of scalar losses with the key "loss") until the
    budget is spent.

    `batch_of(rng, batch_size)` gives one process's batch on the CPU. Writes `checkpoint.pt` (resumed from if present),
    `log.jsonl` and leaves the averaged (EMA) weights in `objective`. Returns what the model card needs: steps, samples,
    hours.
    """
    if schedule.threads:
        torch.set_num_threads(schedule.threads)
    out.mkdir(parents=True, exist_ok=True)
    if start_weights is not None:
        objective.load_state_dict(start_weights)
    training = _Training(objective, schedule, out)
    training.resume()
    log = _Log(out / "log.jsonl")
    saved = time.monotonic()
    while (spent := training.share_spent()) < 1:
        losses = training.step(batch_of, spent)
        if training.accelerator.is_main_process:
            log.add(training.steps, training.elapsed_s, losses)
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
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(), mixed_precision="bf16", kwargs_handlers=[unused]
        )
        self.steps, self.samples, self.elapsed_s = 0, 0, 0.0
        self._objective = objective
        self._schedule = schedule
        self._checkpoint = out / "checkpoint.pt"
        self._trainable = {name: p for name, p in objective.named_parameters() if p.requires_grad}
        optimiser = torch.optim.AdamW(
            self._trainable.values(),
            lr=schedule.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=schedule.weight_decay,
        )
        self._model, self._optimiser = self.accelerator.prepare(objective, optimiser)
        self._trainable = {name: p for name, p in objective.named_parameters() if p.requires_grad}
        self._average = {name: p.detach().clone() for name, p in self._trainable.items()}
        self._model.train()
        self._began = time.monotonic()

    def resume(self) -> None:
        """Go on from `checkpoint.pt` if there is one."""
        if not self._checkpoint.is_file():
            return
        state = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
        self._objective.load_state_dict(state["model"])
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
        temporary = self._checkpoint.with_suffix(".tmp")
        torch.save(
            {
                "model": self._objective.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "average": self._average,
                "step": self.steps,
                "samples": self.samples,
                "elapsed": self.elapsed_s,
            },
            temporary,
        )
        temporary.replace(self._checkpoint)

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
        losses = self._model(batch_of(rng, schedule.batch_size))
        self.accelerator.backward(losses["loss"])
        self.accelerator.clip_grad_norm_(list(self._trainable.values()), 1.0)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self.steps += 1
        self.samples += schedule.batch_size * self.accelerator.num_processes
        decay = min(schedule.ema, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for name, parameter in self._trainable.items():
                self._average[name].lerp_(parameter, 1 - decay)
        return {"rate": rate, **{name: float(value.detach()) for name, value in losses.items()}}

    def use_average(self) -> None:
        """The averaged weights into the objective, in evaluation mode."""
        with torch.no_grad():
            for name, parameter in self._trainable.items():
                parameter.copy_(self._average[name])
        self._objective.eval()


class _Log:
    """A line each LOG_S seconds, in the file and on the terminal: means over the steps since the last one."""

    def __init__(self, path: Path) -> None:
        self._path = path
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
        print(row, flush=True)
        self._sums, self._count, self._written = {}, 0, time.monotonic()
