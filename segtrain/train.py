"""The training loop."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from segtrain.config import LoopConfig, TrainConfig
from segtrain.data import Batch, Mixture, StepData, batches, open_sources
from segtrain.errors import RunError
from segtrain.evaluate import open_validation, score
from segtrain.files import write_whole
from segtrain.labels import IGNORE, LabelSpace
from segtrain.model import Segmenter, build_segmenter, choose_device, save_model
from segtrain.run_folder import Checkpoint, claim, is_finished, read_checkpoint, remove_checkpoint, write_checkpoint
from segtrain.sources import Source

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A training in parts: `train` and the stages of few-shot learning differ in these alone."""

    config: LoopConfig
    data: StepData
    sources: Sequence[Named]  # what the numbers in `Batch.sources` mean
    label_space: LabelSpace
    build: Callable[[torch.device], Segmenter]
    # of the logits (B, classes, H, W) float32 of a batch
    loss: Callable[[Segmenter, torch.Tensor, Batch], torch.Tensor]
    validation: Source | None = None
    # what else the weights depend on, for settings.json
    claims: dict[str, Any] = dataclasses.field(default_factory=dict)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)  # what else config.json keeps


@dataclasses.dataclass(frozen=True, slots=True)
class Named:
    """A source for the log and for config.json."""

    name: str
    kind: str
    num_samples: int


def train(config: TrainConfig) -> Path:
    """Train, or go on where a killed training stopped; returns the model's folder.

    Nothing is done if the model is already there.

    The same settings give bit-identical weights on a CPU with the same number of threads, killed and continued or not.
    Raises SegtrainError.
    """
    sources, label_space = open_sources(config)
    return carry_out(
        Job(
            config,
            Mixture(sources, label_space, config),
            named(sources),
            label_space,
            lambda device: build_segmenter(config, label_space, device),
            lambda segmenter, logits, batch: cross_entropy(logits, batch.targets.to(logits.device).long()),
            open_validation(config.validation, label_space) if config.validation else None,
            {"sources": [source.identity for source in sources]},
        )
    )


def named(sources: Sequence[Source]) -> list[Named]:
    """Sources as their own names."""
    return [Named(str(source.path), source.identity["kind"], sum(source.group_sizes)) for source in sources]


def carry_out(job: Job) -> Path:
    """Claim the folder, train all steps that are left, score, save. Raises SegtrainError."""
    config = job.config
    device = choose_device(config.device)
    claim(config.out, {**config.weight_settings(), **job.claims, "label_space": job.label_space.to_json()})
    if is_finished(config.out):
        _log.info("%s: finished already, nothing to do", config.out)
        return config.out
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    planned = job.data.planned_counts
    for source, count in zip(job.sources, planned, strict=True):
        _log.info(
            "source %s: %d samples, %.1f %% of the mix, %d draws",
            source.name,
            source.num_samples,
            100 * count / sum(planned),
            count,
        )
    segmenter = job.build(device)
    drawn = _fit(job, segmenter)
    for source, count in zip(job.sources, drawn, strict=True):
        _log.info("source %s: gave %d samples (%.1f %%)", source.name, count, 100 * count / sum(drawn))
    if job.validation:
        write_whole(
            config.out / "validation.json", json.dumps(score(segmenter, job.validation).to_json(), indent=2).encode()
        )
    mixed = [
        {"source": Path(source.name).name, "kind": source.kind, "drawn": count}
        for source, count in zip(job.sources, drawn, strict=True)
    ]
    save_model(segmenter, config.out, mix=mixed, steps=config.steps, seed=config.seed, **job.facts)
    remove_checkpoint(config.out)
    return config.out


def _fit(job: Job, segmenter: Segmenter) -> list[int]:
    """All steps that are left; returns how many samples each source has given."""
    config, validation = job.config, job.validation
    network, device = segmenter.network, segmenter.device
    learnt = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(
        learnt, lr=config.learning_rate, weight_decay=config.weight_decay, fused=device.type != "mps"
    )
    first_step, drawn = 0, np.zeros(len(job.sources), dtype=np.int64)
    checkpoint = read_checkpoint(config.out, device)
    if checkpoint:
        network.load_state_dict(checkpoint.network)
        optimiser.load_state_dict(checkpoint.optimiser)
        first_step, drawn = checkpoint.step, np.array(checkpoint.drawn, dtype=np.int64)
        _log.info("going on at step %d of %d", first_step, config.steps)
    bfloat16 = config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")
    network.train()
    begun, begun_at = time.monotonic(), first_step
    with (
        SummaryWriter(str(config.out / "tensorboard"), purge_step=first_step) as board,
        torch.random.fork_rng(devices=[]),
    ):
        for step, batch in enumerate(
            batches(job.data, first_step, config.num_workers, device.type == "cuda"), start=first_step
        ):
            # Dropout draws from the global generator; so it too becomes a function of (seed, step).
            torch.manual_seed(config.seed * 1_000_003 + step)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(config, step)
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                logits = segmenter.logits(batch.images)
            loss = job.loss(segmenter, logits.float(), batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            drawn += np.bincount(batch.sources, minlength=len(drawn))
            done = step + 1
            if done % config.log_every == 0 or done == config.steps:
                speed = (done - begun_at) / (time.monotonic() - begun)
                _report(board, config, done, loss.item(), speed, drawn)
            if validation and config.validate_every and done % config.validate_every == 0 and done < config.steps:
                scores = score(segmenter, validation)
                board.add_scalar("validation/miou", scores.miou, done)
                _log.info("step %d: mIoU %.4f on %s", done, scores.miou, validation.path)
            # At the end only if there is still something to lose: a validation that is killed.
            if done % config.checkpoint_every == 0 if done < config.steps else validation:
                write_checkpoint(
                    config.out, Checkpoint(done, network.state_dict(), optimiser.state_dict(), drawn.tolist())
                )
    return drawn.tolist()


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over the pixels (B, H, W) that are not 255; 0 if there is none, where torch's own mean would be nan."""
    total = torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")
    return total / (targets != IGNORE).sum().clamp(min=1)


def learning_rate(config: LoopConfig, step: int) -> float:
    """Of optimiser step `step`, which counts from 0."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * (
        (1 - done) ** 0.9 if config.schedule == "poly" else (1 + math.cos(math.pi * done)) / 2
    )


def _report(board: SummaryWriter, config: LoopConfig, done: int, loss: float, speed: float, drawn: np.ndarray) -> None:
    """One line and one point of each curve. Raises RunError if the loss has left the numbers."""
    if not np.isfinite(loss):
        raise RunError(
            f"{config.out}: the loss is {loss} at step {done}: lower --learning-rate ({config.learning_rate}), "
            "and use another folder"
        )
    board.add_scalar("train/loss", loss, done)
    board.add_scalar("train/learning_rate", learning_rate(config, done - 1), done)
    board.add_scalar("train/steps_per_s", speed, done)
    for number, count in enumerate(drawn):
        board.add_scalar(f"mix/source_{number}", count / drawn.sum(), done)
    _log.info("step %d of %d: loss %.4f, %.2f steps/s", done, config.steps, loss, speed)
