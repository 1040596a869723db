"""The training loop that every mini model shares: time-budgeted, resumable, the same on CPU and GPU and over processes.

The learning rate follows the share of the time budget that is spent (warm-up by steps, flat, then cosine), so that a
run of any length ends annealed. A batch is a function of (seed, step, rank) alone, so a resumed run sees the batches
that an undisturbed one would have seen.
"""

from __future__ import annotations

import argparse
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


@dataclasses.dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast. `minutes` counts all the runs of a resumed training together."""

    minutes: float
    batch_size: int  # of one process
    learning_rate: float
    seed: int = 0
    warmup_steps: int = 100
    flat: float = 0.35  # share of the budget before the cosine begins
    ema: float = 0.998
    weight_decay: float = 0.01
    checkpoint_s: float = 60.0
    threads: int = 0  # torch CPU threads of a process; 0 = leave as is

    def rate_at(self, step: int, spent: float) -> float:
        """Learning rate at a step with the share `spent` of the budget gone, in [0, 1]."""
        warm = min(1.0, (step + 1) / self.warmup_steps)
        down = max(0.0, spent - self.flat) / (1 - self.flat)
        return self.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, down))))


def add_arguments(parser: argparse.ArgumentParser, minutes: float, batch_size: int, learning_rate: float) -> None:
    """The options that every training command has."""
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for checkpoints, the log and the finished model"
    )
    parser.add_argument(
        "--cache", type=Path, required=True, help="folder for drawn scenes and latents; shared between trainings"
    )
    parser.add_argument("--minutes", type=_positive, default=minutes, help="time budget over all resumed runs together")
    parser.add_argument("--batch-size", type=_at_least_one, default=batch_size, help="samples a step and process")
    parser.add_argument("--learning-rate", type=float, default=learning_rate)
    parser.add_argument("--flat", type=float, default=0.35, help="share of the budget before the learning rate falls")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of a process; 0 = torch's default")


def check_folder(parser: argparse.ArgumentParser, option: str, folder: Path | None, file: str) -> None:
    """End with the usage and one line if a folder was given that lacks `file`:

    the loaders would take its name for a Hub id.
    """
    if folder is not None and not (folder / file).is_file():
        parser.error(f"{option} {folder}: no trained model there (it has no {file})")


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def schedule_of(arguments: argparse.Namespace, **more: Any) -> Schedule:
    """The Schedule of parsed `add_arguments` options."""
    return Schedule(
        minutes=arguments.minutes,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        flat=arguments.flat,
        threads=arguments.threads,
        **more,
    )


def train(
    objective: torch.nn.Module,
    batch_of: Callable[[np.random.Generator, int], Any],
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
    # a ControlNet leaves the text side of its last block without a gradient, which DDP takes for a fault unless told
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="bf16", kwargs_handlers=[unused])
    out.mkdir(parents=True, exist_ok=True)
    if start_weights is not None:
        objective.load_state_dict(start_weights)
    trainable = [p for p in objective.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        trainable, lr=schedule.learning_rate, betas=(0.9, 0.98), weight_decay=schedule.weight_decay
    )
    model, optimiser = accelerator.prepare(objective, optimiser)
    average = {name: p.detach().clone() for name, p in objective.named_parameters() if p.requires_grad}
    step, samples, elapsed = 0, 0, 0.0
    checkpoint = out / "checkpoint.pt"
    if checkpoint.is_file():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        objective.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        average = {name: value.to(accelerator.device) for name, value in state["average"].items()}
        step, samples, elapsed = state["step"], state["samples"], state["elapsed"]
        accelerator.print(f"resumed at step {step}, {elapsed / 60:.1f} of {schedule.minutes:g} minutes spent")

    def save() -> None:
        if not accelerator.is_main_process:
            return
        temporary = checkpoint.with_suffix(".tmp")
        torch.save(
            {
                "model": objective.state_dict(),
                "optimiser": optimiser.state_dict(),
                "average": average,
                "step": step,
                "samples": samples,
                "elapsed": elapsed,
            },
            temporary,
        )
        temporary.replace(checkpoint)

    model.train()
    began, saved, logged = time.monotonic() - elapsed, time.monotonic(), time.monotonic()
    sums: dict[str, float] = {}
    count = 0
    while True:
        # every process must follow one clock, or their learning rates (and so their weights) would drift apart
        elapsed = float(
            broadcast(torch.tensor(time.monotonic() - began, device=accelerator.device, dtype=torch.float32))
        )
        spent = elapsed / (60 * schedule.minutes)
        if spent >= 1:
            break
        rate = schedule.rate_at(step, spent)
        for group in optimiser.param_groups:
            group["lr"] = rate
        rng = np.random.default_rng((schedule.seed, step, accelerator.process_index))
        torch.manual_seed(int(rng.integers(2**62)))
        losses = model(batch_of(rng, schedule.batch_size))
        accelerator.backward(losses["loss"])
        accelerator.clip_grad_norm_(trainable, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        samples += schedule.batch_size * accelerator.num_processes
        decay = min(schedule.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, p in objective.named_parameters():
                if p.requires_grad:
                    average[name].lerp_(p, 1 - decay)
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        count += 1
        if time.monotonic() - logged > 20:
            row = {
                "step": step,
                "minutes": round(elapsed / 60, 2),
                "rate": rate,
                **{k: round(v / count, 5) for k, v in sums.items()},
            }
            if accelerator.is_main_process:
                with (out / "log.jsonl").open("a", encoding="utf-8") as log:
                    log.write(json.dumps(row) + "\n")
                print(row, flush=True)
            sums, count, logged = {}, 0, time.monotonic()
        if time.monotonic() - saved > schedule.checkpoint_s:
            save()
            saved = time.monotonic()
    save()
    with torch.no_grad():
        for name, p in objective.named_parameters():
            if name in average:
                p.copy_(average[name])
    objective.eval()
    return {"steps": step, "samples": samples, "hours": round(elapsed / 3600, 3)}
