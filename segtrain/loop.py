"""The training loop: claim, steps, precision, clipping, checkpoints, validation, log. It knows no method by name."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segkit.labels import LabelSpace
from segtrain.board import Board
from segtrain.config import LoopConfig
from segtrain.data.labelled import require_labels
from segtrain.data.source import Source
from segtrain.errors import RunError
from segtrain.evaluate import score
from segtrain.files import write_whole
from segtrain.method import Method
from segtrain.optimiser import Optimiser, learning_rate
from segtrain.run_folder import (
    Checkpoint,
    check_owner,
    claimed,
    is_finished,
    read_checkpoint,
    remove_checkpoint,
    write_checkpoint,
)
from segtrain.segmenter import Segmenter, choose_device, save_model

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class SourceReport:
    """A source for the log and for config.json: `Batch.sources` counts the samples that each one gives."""

    name: str
    kind: str
    num_samples: int
    planned: int  # samples that it is to give over all steps


@dataclasses.dataclass(frozen=True, slots=True)
class Training:
    """A training but for its method."""

    config: LoopConfig
    sources: Sequence[SourceReport]
    label_space: LabelSpace
    build: Callable[[torch.device], Segmenter]  # a function of the settings, called only if there is something to do
    validation: Source | None = None
    claims: dict[str, Any] = dataclasses.field(default_factory=dict)  # what else the weights depend on
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)  # what else config.json keeps
    training_only: tuple[str, ...] = ()  # submodules of the network that learn with it and are not saved in the model


def reports(sources: Sequence[Source], planned: Sequence[int]) -> list[SourceReport]:
    """Sources under their own names."""
    return [
        SourceReport(str(source.path), source.identity["kind"], sum(source.group_sizes), count)
        for source, count in zip(sources, planned, strict=True)
    ]


def run(training: Training, method: Method) -> Path:
    """Train, or go on where a killed training stopped; score and save the model; returns its folder.

    Nothing is done if the model is already there. The same settings give bit-identical weights on a CPU with the same
    number of threads, killed and continued or not. The folder is claimed once the network stands, so a training that
    cannot begin leaves nothing behind. Raises SegtrainError.
    """
    config = training.config
    device = choose_device(config.device)
    settings = {**config.weight_settings(), **training.claims, "label_space": training.label_space.to_json()}
    check_owner(config.out, settings)
    if is_finished(config.out):
        _log.info("%s: finished already, nothing to do", config.out)
        return config.out
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    if training.validation:
        require_labels([training.validation], training.label_space, background_counts=True)
    segmenter = training.build(device)
    segmenter.bfloat16 = config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")
    with claimed(config.out, settings):
        if is_finished(config.out):  # by a process that was here in the meantime
            return config.out
        _report_plan(training.sources)
        drawn = _Run(training, method, segmenter).steps()
        for source, count in zip(training.sources, drawn, strict=True):
            _log.info("source %s: gave %d samples (%.1f %%)", source.name, count, 100 * count / sum(drawn))
        if training.validation:
            scores = score(segmenter, training.validation)
            write_whole(config.out / "validation.json", json.dumps(scores.to_json(), indent=2).encode())
        mix = [
            {"source": Path(source.name).name, "kind": source.kind, "drawn": count}
            for source, count in zip(training.sources, drawn, strict=True)
        ]
        for name in training.training_only:
            delattr(segmenter.network, name)
        save_model(segmenter, config.out, mix=mix, steps=config.steps, seed=config.seed, **training.facts)
        remove_checkpoint(config.out)
    return config.out


class _Run:
    """The steps of a training that are left."""

    def __init__(self, training: Training, method: Method, segmenter: Segmenter) -> None:
        self._training, self._config, self._method, self._segmenter = training, training.config, method, segmenter
        self._optimiser = Optimiser(segmenter.network, training.config, segmenter.device)
        self._drawn = np.zeros(len(training.sources), dtype=np.int64)
        self._unchecked: list[tuple[int, torch.Tensor]] = []  # steps and losses that nobody has looked at yet

    def steps(self) -> list[int]:
        """Take them; returns how many samples each source has given, those of earlier processes included."""
        first_step = self._resume()
        began = time.monotonic()
        with (
            # A step's point has the number of steps done, so that of the last one before the checkpoint stays.
            contextlib.closing(Board(self._config.out, first_step + 1)) as board,
            torch.random.fork_rng(devices=[]),
        ):
            for step, batch in enumerate(self._method.batches(first_step), start=first_step):
                losses = self._step(step, batch)
                done = step + 1
                if done % self._config.log_every == 0 or done == self._config.steps:
                    self._log_step(board, done, losses, (done - first_step) / (time.monotonic() - began))
                for name, pixels in self._method.pictures(step).items():
                    board.picture(name, pixels, done)
                self._validate(board, done)
                if self._is_checkpoint(done):
                    self._write_checkpoint(done)
        if self._config.steps > first_step:
            self._require_numbers(self._config.steps)
        return [int(count) for count in self._drawn]

    def _resume(self) -> int:
        """Load the checkpoint if there is one; the first step to take."""
        checkpoint = read_checkpoint(self._config.out, self._segmenter.device)
        if checkpoint is None:
            return 0
        network = self._segmenter.network
        try:
            network.load_state_dict(checkpoint.network)
        except RuntimeError as error:
            raise RunError(
                f"{self._config.out / 'checkpoint.pt'}: not of this network: remove it to train from the start"
            ) from error
        # As the groups were when it was written, so that what AdamW knows finds its parameters.
        self._optimiser.regroup(self._method.groups(network, checkpoint.step - 1))
        self._optimiser.load_state(checkpoint.optimiser)
        self._method.load_state(checkpoint.method)
        self._drawn += np.array(checkpoint.drawn, dtype=np.int64)
        _log.info("going on at step %d of %d", checkpoint.step, self._config.steps)
        return checkpoint.step

    def _step(self, step: int, batch: Any) -> dict[str, torch.Tensor]:
        """One step of the optimiser; what the method's loss gave, detached."""
        # Dropout draws from the global generator; so it too becomes a function of (seed, step).
        torch.manual_seed(self._config.seed * 1_000_003 + step)
        self._optimiser.regroup(self._method.groups(self._segmenter.network, step))
        losses = self._method.loss(self._segmenter, batch, step)
        losses["loss"].backward()
        self._optimiser.step(learning_rate(self._config, step))
        losses = {name: value.detach() for name, value in losses.items()}
        self._method.after_step(self._segmenter, batch, losses, step)
        self._drawn += np.bincount(batch.sources, minlength=len(self._drawn))
        self._unchecked.append((step + 1, losses["loss"]))
        return losses

    def _log_step(self, board: Board, done: int, losses: dict[str, torch.Tensor], speed: float) -> None:
        """One line, and one point of each curve."""
        self._require_finite_losses()
        for name, value in losses.items():
            board.scalar(f"train/{name}", value.item(), done)
        board.scalar("train/learning_rate", learning_rate(self._config, done - 1), done)
        board.scalar("train/steps_per_s", speed, done)
        for number, count in enumerate(self._drawn):
            board.scalar(f"mix/source_{number}", count / self._drawn.sum(), done)
        parts = ", ".join(f"{name} {value.item():.4f}" for name, value in losses.items())
        _log.info("step %d of %d: %s, %.2f steps/s", done, self._config.steps, parts, speed)

    def _validate(self, board: Board, done: int) -> None:
        validation, every = self._training.validation, self._config.validate_every
        if not validation or not every or done % every or done == self._config.steps:
            return
        miou = score(self._segmenter, validation).miou
        if miou is not None:
            board.scalar("validation/miou", miou, done)
        _log.info("step %d: mIoU %s on %s", done, "-" if miou is None else f"{miou:.4f}", validation.path)

    def _is_checkpoint(self, done: int) -> bool:
        """At the end only if there is still something to lose: a validation that is killed."""
        if done == self._config.steps:
            return self._training.validation is not None
        return done % self._config.checkpoint_every == 0

    def _write_checkpoint(self, done: int) -> None:
        self._require_numbers(done)
        network = self._segmenter.network.state_dict()
        write_checkpoint(
            self._config.out,
            Checkpoint(done, network, self._optimiser.state(), self._method.state(), self._drawn.tolist()),
        )

    def _require_numbers(self, done: int) -> None:
        """Nothing that has left the numbers is ever written: the same command would go on from there."""
        self._require_finite_losses()
        for name, tensor in self._segmenter.network.state_dict().items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise RunError(f"{self._config.out}: {name} is not finite after step {done}: {self._way_out()}")

    def _require_finite_losses(self) -> None:
        unchecked, self._unchecked = self._unchecked, []
        if not unchecked:
            return
        values = torch.stack([loss for _, loss in unchecked]).tolist()
        for (step, _), value in zip(unchecked, values, strict=True):
            if not np.isfinite(value):
                raise RunError(f"{self._config.out}: the loss is {value} at step {step}: {self._way_out()}")

    def _way_out(self) -> str:
        return f"lower --learning-rate ({self._config.learning_rate}), and use another folder"


def _report_plan(sources: Sequence[SourceReport]) -> None:
    planned = sum(source.planned for source in sources)
    for source in sources:
        _log.info(
            "source %s: %d samples, %.1f %% of the mix, %d draws",
            source.name,
            source.num_samples,
            100 * source.planned / planned,
            source.planned,
        )
