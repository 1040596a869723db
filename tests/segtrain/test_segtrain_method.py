"""What the loop promises to a method, seen by methods of this file's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles.killed_training import Killed, kill_at
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from segtrain.config import TrainConfig
from segtrain.data.batches import Batch, batches
from segtrain.data.mixture import Mixture, open_sources
from segtrain.errors import ConfigError, RunError
from segtrain.loop import Training, reports, run
from segtrain.losses import cross_entropy
from segtrain.method import StandardMethod
from segtrain.optimiser import Group
from segtrain.segmenter import Segmenter, build_segmenter


class Staged(StandardMethod):
    """Two stages, a bank that follows the losses and weights the next ones, batches that follow the bank.

    In short all that the papers need: frozen parts that change, state, and sampling that depends on what was learnt.
    """

    def __init__(self, data: Mixture, config: TrainConfig) -> None:
        super().__init__(data, config)
        self.bank = torch.zeros(3)
        self.calls: list[str] = []
        self.seen: list[int] = []

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Each step's batch is that of the step or of the one before it, by what the bank says now."""
        for step in range(first_step, self._config.steps):
            self.calls.append(f"batch {step}")
            number = max(0, step - int(self.bank[0].item() * 1e4) % 2)
            self.seen.append(number)
            yield next(batches(self._data, number, 0))

    def loss(self, segmenter: Segmenter, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        self.calls.append(f"loss {step}")
        segmentation = cross_entropy(segmenter.logits(batch.images), batch.targets)
        return {"loss": segmentation * (1 + self.bank[1]), "plain": segmentation, "bank": self.bank.sum()}

    def groups(self, network: nn.Module, step: int) -> Sequence[Group]:
        if step < 3:
            return (Group(("encoder.*", "decoder.*"), frozen=True), Group(rate=10.0))
        return (Group(("encoder.*",), frozen=True), Group(("decoder.*",), clip=0.1), Group())

    def after_step(self, segmenter: Segmenter, batch: Batch, losses: dict[str, torch.Tensor], step: int) -> None:
        self.calls.append(f"after {step}")
        assert not losses["loss"].requires_grad
        self.bank = 0.9 * self.bank + 0.1 * losses["plain"]

    def state(self) -> dict[str, torch.Tensor]:
        return {"bank": self.bank}

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        self.bank = tensors["bank"]


def train_with(config: TrainConfig, kind: type[StandardMethod] = Staged) -> tuple[bytes, Any]:
    sources, space = open_sources(config)
    data = Mixture(sources, space, config)
    method: Any = kind(data, config)
    training = Training(
        config,
        reports(sources, data.planned_counts),
        space,
        build=lambda device: build_segmenter(config, space, device),
    )
    folder = run(training, method)
    return (folder / "model.safetensors").read_bytes(), method


def test_a_method_with_stages_and_state_goes_on_after_a_kill_to_the_very_same_weights(
    settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the first stage, at its end, and in the second; a checkpoint every other step."""
    whole, method = train_with(settings(out=tmp_path / "whole"))
    assert method.seen != list(range(6)), "the bank has moved the batches"
    for step in (2, 3, 4, 5):
        config = settings(out=tmp_path / f"killed-{step}")
        with monkeypatch.context() as patch, pytest.raises(Killed):
            kill_at(patch, step)
            train_with(config)
        again, method = train_with(config)
        assert again == whole
        assert method.calls[0] == f"batch {step // 2 * 2}"


def test_the_state_of_a_method_is_in_the_checkpoint(settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 4)
        train_with(settings())
    checkpoint = torch.load(tmp_path / "model" / "checkpoint.pt", weights_only=True)
    assert set(checkpoint["method"]) == {"bank"} and checkpoint["method"]["bank"].sum() > 0
    assert not [name for name in checkpoint["optimiser"] if name.startswith("encoder.")]


def test_a_batch_is_asked_for_after_the_step_before_it(settings) -> None:
    """So sampling can follow what was learnt."""
    calls = train_with(settings(steps=3))[1].calls
    assert calls == [f"{what} {step}" for step in range(3) for what in ("batch", "loss", "after")]


def test_what_the_encoder_has_not_learnt_it_still_is(settings, tmp_path: Path) -> None:
    from segtrain.segmenter import load_model

    config = settings()
    train_with(config)
    before = build_segmenter(config, open_sources(config)[1], torch.device("cpu")).network.state_dict()
    after = load_model(tmp_path / "model", "cpu").network.state_dict()
    encoder = [name for name in after if name.startswith("encoder.")]
    assert encoder and all(torch.equal(before[name], after[name]) for name in encoder)
    assert not torch.equal(before["segmentation_head.0.weight"], after["segmentation_head.0.weight"])


def test_validation_in_between_does_not_wake_what_is_frozen(settings, golden: Path, tmp_path: Path) -> None:
    whole, _ = train_with(settings(out=tmp_path / "a"))
    config = settings(out=tmp_path / "b", validation=str(golden), validate_every=1)
    sources, space = open_sources(config)
    data = Mixture(sources, space, config)
    training = Training(
        config,
        reports(sources, data.planned_counts),
        space,
        build=lambda device: build_segmenter(config, space, device),
        validation=sources[0],
    )
    assert (run(training, Staged(data, config)) / "model.safetensors").read_bytes() == whole


def test_every_loss_is_a_curve(settings, tmp_path: Path) -> None:
    train_with(settings(log_every=1))
    events = EventAccumulator(str(tmp_path / "model" / "tensorboard")).Reload()
    curves = {name: [e.value for e in events.Scalars(f"train/{name}")] for name in ("loss", "plain", "bank")}
    assert all(len(values) == 6 for values in curves.values())
    assert curves["bank"][0] == 0 < curves["bank"][5]


class Recording(StandardMethod):
    """Keeps the targets that reach it."""

    targets: list[torch.Tensor]

    def loss(self, segmenter: Segmenter, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        self.targets = [*getattr(self, "targets", []), batch.targets]
        return {"loss": cross_entropy(segmenter.logits(batch.images), batch.targets)}


def test_out_of_distribution_pixels_reach_a_method_and_not_the_cross_entropy(
    settings, tmp_path: Path, write_shards, pairs
) -> None:
    """Half of each image is 254, the other half a class."""
    halves = [(image, np.where(np.arange(32) < 16, 254, mask).astype(np.uint8)) for image, mask in pairs(3)]
    plain = {
        "scale_min": 1,
        "scale_max": 1,
        "flip": 0,
        "jitter": 0,
        "data": [str(write_shards(tmp_path / "d", halves))],
    }
    targets = torch.stack(train_with(settings(**plain), Recording)[1].targets)
    assert set(targets.unique().tolist()) == {0, 1, 254}
    assert (targets == 254).float().mean() == 0.5
    logits = torch.randn(2, 2, 4, 4)
    labels = torch.randint(0, 2, (2, 4, 4))
    ignored = labels.masked_fill(torch.rand(2, 4, 4) < 0.5, 255)
    unknown = torch.where(ignored == 255, 254, ignored)
    assert torch.equal(cross_entropy(logits, unknown.to(torch.uint8)), cross_entropy(logits, ignored))


class Diverging(StandardMethod):
    """The loss leaves the numbers at step 3; the weights do so at once."""

    def loss(self, segmenter: Segmenter, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        loss = cross_entropy(segmenter.logits(batch.images), batch.targets)
        return {"loss": loss * (float("nan") if step == 2 else 1.0)}


@pytest.mark.parametrize(("checkpoint_every", "kept"), [(2, 2), (1, 2), (3, None), (100, None)])
def test_numbers_that_are_none_are_never_written(
    settings, tmp_path: Path, checkpoint_every: int, kept: int | None
) -> None:
    """Nobody looks at the log of these steps: the checkpoint itself must."""
    config = settings(steps=8, checkpoint_every=checkpoint_every, log_every=50)
    with pytest.raises(RunError, match="the loss is nan at step 3: lower --learning-rate"):
        train_with(config, Diverging)
    path = tmp_path / "model" / "checkpoint.pt"
    assert path.is_file() == (kept is not None)
    if kept:
        checkpoint = torch.load(path, weights_only=True)
        assert checkpoint["step"] == kept
        assert all(torch.isfinite(t).all() for t in checkpoint["network"].values() if t.is_floating_point())
    assert not (tmp_path / "model" / "model.safetensors").exists()


def test_weights_that_left_the_numbers_in_the_last_step_are_not_saved(settings, tmp_path: Path) -> None:
    """The loss of the only step is fine, the step itself is not."""
    with pytest.raises(RunError, match="is not finite after step 1: lower --learning-rate"):
        train_with(settings(steps=1, learning_rate=1e39), Recording)
    assert not (tmp_path / "model" / "model.safetensors").exists()


def test_more_sources_than_their_numbers_hold_are_refused(settings) -> None:
    sources, space = open_sources(settings())
    many = [sources[0]] * 257
    with pytest.raises(ConfigError, match="257 sources: a training takes 256, labelled and unlabelled ones together"):
        Mixture(many, space, settings(steps=100, batch_size=100))
    assert len(Mixture(many[:256], space, settings(steps=100, batch_size=100)).planned_counts) == 256
