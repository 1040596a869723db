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
from segkit.memory import peak_bytes
from segkit.printable import duration
from segtrain.board import Board
from segtrain.config import LoopConfig
from segtrain.data.labelled import require_labels, require_readable
from segtrain.data.source import Source
from segtrain.errors import RunError
from segtrain.files import make_folder, write_whole
from segtrain.interrupt import held_back
from segtrain.method import Method
from segtrain.optimiser import Optimiser, learning_rate
from segtrain.progress import Bar, bar
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
from segtrain.trial import require_learns, require_predicts
from segtrain.validation import Best, Validation

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
    fewest_crops: int = 2  # that the network learns from at once, in any step
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
        require_readable([training.validation])
        require_labels([training.validation], training.label_space, background_counts=True)
    segmenter = training.build(device)
    segmenter.bfloat16 = config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")
    require_learns(segmenter, training.fewest_crops, config.crop_px)
    require_predicts(segmenter, config.crop_px, training.validation)
    if config.dry_run:
        _report_plan(training.sources)
        _Run(training, method, segmenter, None).try_out()
        return config.out
    with claimed(config.out, settings):
        if is_finished(config.out):  # by a process that was here in the meantime
            return config.out
        _report_plan(training.sources)
        validation = Validation(training.validation, config.validate_every) if training.validation else None
        drawn = _Run(training, method, segmenter, validation).steps()
        for source, count in zip(training.sources, drawn, strict=True):
            _log.info("source %s: gave %d samples (%.1f %%)", source.name, count, 100 * count / sum(drawn))
        mix = [
            {"source": Path(source.name).name, "kind": source.kind, "drawn": count}
            for source, count in zip(training.sources, drawn, strict=True)
        ]
        best = validation.best if validation else None
        _save(training, segmenter, best, {"mix": mix, "seed": config.seed, **training.facts})
        remove_checkpoint(config.out)
    return config.out


def _save(training: Training, segmenter: Segmenter, best: Best | None, facts: dict[str, Any]) -> None:
    """The best model, then the last one, whose config.json says that the training is finished."""
    out, network = training.config.out, segmenter.network
    if best:
        last = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        network.load_state_dict(best.network)
    for name in training.training_only:
        delattr(network, name)
    if best:
        facts = {**facts, "best": best.facts()}
        make_folder(out / "best")
        save_model(segmenter, out / "best", steps=best.step, **facts)
        network.load_state_dict({name: last[name] for name in network.state_dict()})
        _log.info("the best model, of step %d with mIoU %.4f, is in %s", best.step, best.miou, out / "best")
    save_model(segmenter, out, steps=training.config.steps, **facts)


class _Run:
    """The steps of a training that are left."""

    def __init__(self, training: Training, method: Method, segmenter: Segmenter, validation: Validation | None) -> None:
        self._config, self._method, self._segmenter, self._validation = training.config, method, segmenter, validation
        self._optimiser = Optimiser(segmenter.network, training.config, segmenter.device)
        self._drawn = np.zeros(len(training.sources), dtype=np.int64)
        self._unchecked: list[tuple[int, torch.Tensor]] = []  # steps and losses that nobody has looked at yet

    def steps(self) -> list[int]:
        """Take them; returns how many samples each source has given, those of earlier processes included."""
        first_step, steps = self._resume(), self._config.steps
        began = time.monotonic()
        # A step's point has the number of steps done, so that of the last one before the checkpoint stays.
        with contextlib.closing(Board(self._config.out, first_step + 1)) as board:
            with bar(steps, first_step) as shown, held_back() as is_stopped, torch.random.fork_rng(devices=[]):
                for step, batch in enumerate(self._method.batches(first_step), start=first_step):
                    losses = self._step(step, batch)
                    done = step + 1
                    if done % self._config.log_every == 0 or done == steps:
                        self._log_step(board, shown, done, losses, (done - first_step) / (time.monotonic() - began))
                    for name, pixels in self._method.pictures(step).items():
                        board.picture(name, pixels, done)
                    if self._validation and self._validation.is_due(done, steps):
                        self._require_numbers(done)  # they may become the best
                        self._validation.score(self._segmenter, board, done)
                    stopped = is_stopped()  # asked once: a Ctrl-C from here on waits for the next step's end
                    if self._is_checkpoint(done) or stopped:
                        self._write_checkpoint(done)
                    shown.show(done)
                    if stopped:
                        raise KeyboardInterrupt
            if steps > first_step:
                self._require_numbers(steps)
            if self._validation:
                scores = self._validation.score(self._segmenter, board, steps)
                _log.info("%s", scores.table())
                where = str(Path(self._config.validation or "").resolve())
                told = {**scores.to_json(), "data": where, "identity": self._validation.identity}
                write_whole(self._config.out / "validation.json", json.dumps(told, indent=2).encode())
        return [int(count) for count in self._drawn]

    def try_out(self) -> None:
        """Take the first step and forget it; say what it took."""
        network, device = self._segmenter.network, self._segmenter.device
        began = time.monotonic()
        with torch.random.fork_rng(devices=[]):
            losses = self._step(0, next(self._method.batches(0)))
        self._require_finite_losses()
        if device.type == "cuda":
            memory = f"{torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB of {device}"
        else:
            memory = f"{peak_bytes() / 1e9:.2f} GB"
        parameters = list(network.parameters())
        _log.info(
            "dry run: %d parameters of which %d learn; one of %d steps took %.2f s, loss %.4f; %s at the peak; nothing "
            "was written to %s",
            sum(p.numel() for p in parameters),
            sum(p.numel() for p in parameters if p.requires_grad),
            self._config.steps,
            time.monotonic() - began,
            losses["loss"].item(),
            memory,
            self._config.out,
        )

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
        if self._validation:
            self._validation.load_state(checkpoint.best)
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

    def _log_step(self, board: Board, shown: Bar, done: int, losses: dict[str, torch.Tensor], speed: float) -> None:
        """One point of each curve, and a few words at the bar; a line where there is none."""
        self._require_finite_losses()
        for name, value in losses.items():
            board.scalar(f"train/{name}", value.item(), done)
        board.scalar("train/learning_rate", learning_rate(self._config, done - 1), done)
        board.scalar("train/steps_per_s", speed, done)
        for number, count in enumerate(self._drawn):
            board.scalar(f"mix/source_{number}", count / self._drawn.sum(), done)
        parts = ", ".join(f"{name} {value.item():.4f}" for name, value in losses.items())
        if shown.is_live:
            shown.show(done, f"{parts}, {speed:.2f} steps/s")
        else:
            left = duration((self._config.steps - done) / speed)
            _log.info("step %d of %d: %s, %.2f steps/s, %s left", done, self._config.steps, parts, speed, left)

    def _is_checkpoint(self, done: int) -> bool:
        """At the end only if there is still something to lose: a validation that is killed."""
        if done == self._config.steps:
            return self._validation is not None
        return done % self._config.checkpoint_every == 0

    def _write_checkpoint(self, done: int) -> None:
        self._require_numbers(done)
        network = self._segmenter.network.state_dict()
        best = self._validation.state() if self._validation else {}
        write_checkpoint(
            self._config.out,
            Checkpoint(done, network, self._optimiser.state(), self._method.state(), self._drawn.tolist(), best),
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
