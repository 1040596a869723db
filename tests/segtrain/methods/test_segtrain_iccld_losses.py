"""What `segtrain iccld` learns from in a step: labels of the teacher, times, losses, and what may not be read."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from doubles.iccld_steps import begun
from torch.nn import functional

from segkit.networks.diffusion.schedule import noised
from segkit.networks.latent_diffusion import LatentDiffusionNetwork
from segtrain.methods.iccld.method import Iccld, latent_loss, segmentation_loss, time_weights
from segtrain.self_training.pseudo_labels import PseudoLabels


def test_pseudo_labels_come_from_the_full_sampler_of_the_teacher(iccld, monkeypatch) -> None:
    method, segmenter, batch = begun(iccld(sampling_steps=3, adversary=False))
    calls: list[float] = []
    denoise = LatentDiffusionNetwork.denoise

    def spied(self: LatentDiffusionNetwork, z: Any, context: Any, t: torch.Tensor) -> Any:
        if self is not segmenter.network:
            calls.append(float(t[0]))
        return denoise(self, z, context, t)

    monkeypatch.setattr(LatentDiffusionNetwork, "denoise", spied)
    method.loss(segmenter, batch, 0)
    assert calls == pytest.approx([1, 2 / 3, 1 / 3])


def test_coverage_and_weight_are_those_of_every_self_training(iccld) -> None:
    values = []
    for diffusion in (True, False):
        method, segmenter, batch = begun(iccld(adversary=False, diffusion=diffusion, threshold=1.0))
        values.append(method.loss(segmenter, batch, 0))
    assert [round(float(found["coverage"]), 6) for found in values] == [1, 1]
    assert [round(float(found["weight"]), 6) for found in values] == [0, 0], "nobody is sure to 1"


def test_the_domains_share_their_times(iccld) -> None:
    method, segmenter, batch = begun(iccld(adversary_start=0.0))
    method.loss(segmenter, batch, 0)
    assert len(method._seen) == 3, "source, mixed, target"
    times = [t for _, t in method._seen]
    least = min(map(len, times))
    assert all(torch.equal(t[:least], times[0][:least]) for t in times)
    assert len(set(times[0].tolist())) == len(times[0])


def test_the_adversary_learns_from_its_start_on_and_its_gradient_reaches_the_denoiser_alone(iccld) -> None:
    config = iccld(adversary_start=0.5, latent_weight=0.0, segmentation_weight=0.0, adversary_weight=1.0)
    method, segmenter, batch = begun(config)
    assert "adversary" not in method.loss(segmenter, batch, 2)
    losses = method.loss(segmenter, batch, 3)
    losses["loss"].backward()
    reached = {name for name, p in segmenter.network.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(name.startswith("denoiser.") for name in reached)
    assert not any(name.startswith("label_decoder.") for name in reached)
    before = {name: tensor.clone() for name, tensor in method.state().items() if name.startswith("adversary.")}
    method.after_step(segmenter, batch, losses, 3)
    after = method.state()
    assert any(not torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize("low_t", ["weight", "bound"])
def test_near_no_noise_the_label_in_the_input_earns_nothing(iccld, low_t: str) -> None:
    config = iccld(low_t=low_t)
    t = torch.tensor([0.001, 0.2, 0.5, 1.0])
    v = time_weights(t, config)
    expected = np.sin(np.pi / 2 * t.numpy()) ** 2 if low_t == "weight" else (t.numpy() >= 0.3)
    assert np.allclose(v.numpy(), expected, atol=1e-6)
    assert v[0] < 1e-5 and v[-1] == pytest.approx(1)
    assert time_weights(t, iccld(low_t="none")).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("low_t", ["weight", "bound"])
def test_losses_are_their_formulas(iccld, low_t: str) -> None:
    config = iccld(latent_scale=0.2, low_t=low_t)
    _, segmenter, _ = begun(config)
    network = segmenter.network
    rng = np.random.default_rng(0)
    channels = torch.from_numpy(rng.choice([0, 1, 255], (3, 8, 8)))
    labels = PseudoLabels(channels, torch.from_numpy(rng.random((3, 8, 8), dtype=np.float32)))
    t = torch.tensor([0.2, 0.5, 0.8])
    logits = torch.randn(3, 2, 8, 8)
    expected, count = 0.0, 0
    for b in range(3):
        v = float(torch.sin(torch.pi / 2 * t[b]) ** 2) if low_t == "weight" else float(t[b] >= 0.3)
        for y in range(8):
            for x in range(8):
                if channels[b, y, x] != 255:
                    ce = float(-functional.log_softmax(logits[b, :, y, x], 0)[channels[b, y, x]])
                    expected += v * float(labels.weights[b, y, x]) * ce
                    count += 1
    assert float(segmentation_loss(logits, t, labels, config)) == pytest.approx(expected / count, rel=1e-4)
    latents = network.latents_of(channels)
    z0 = latents + torch.randn_like(latents)
    expected, count = 0.0, 0
    for b in range(3):
        snr = float(1 / torch.tan(torch.pi / 2 * t[b]) ** 2)
        for y in range(2):
            for x in range(2):
                if channels[b, 4 * y + 2, 4 * x + 2] != 255:
                    error = float((((z0 - latents)[b, :, y, x] / 0.2) ** 2).mean())
                    expected += min(snr, 2) / 2 * float(labels.weights[b, 4 * y + 2, 4 * x + 2]) * error
                    count += 1
    assert float(latent_loss(z0, latents, t, labels, network, config)) == pytest.approx(expected / count, rel=1e-4)


def test_the_first_error_of_the_bits_is_of_their_size_whatever_their_scale(iccld) -> None:
    found = []
    for scale in (0.001, 1.0):
        method, segmenter, batch = begun(iccld(adversary=False, latent_scale=scale))
        torch.manual_seed(0)
        found.append(float(method.loss(segmenter, batch, 0)["latent"].detach()))
    assert min(found) > 0.1 and max(found) < 3


def test_the_weight_of_mixed_pictures_is_a_factor(iccld) -> None:
    losses = []
    for weight in (0.0, 1.0, 3.0):
        method, segmenter, batch = begun(iccld(adversary=False, unlabelled_weight=weight))
        torch.manual_seed(0)
        losses.append(method.loss(segmenter, batch, 0)["loss"].item())
    assert losses[1] > losses[0]
    assert losses[2] - losses[0] == pytest.approx(3 * (losses[1] - losses[0]), rel=1e-4)


def test_pixels_without_a_class_count_nowhere_and_are_coded(iccld) -> None:
    config = iccld()
    _, segmenter, _ = begun(config)
    network = segmenter.network
    void = torch.full((1, 32, 32), 255)
    latents = network.latents_of(void)
    assert latents.unique().tolist() == pytest.approx([-0.1])
    labels, t = PseudoLabels(void, torch.ones(1, 32, 32)), torch.tensor([0.5])
    logits = torch.randn(1, 2, 32, 32, requires_grad=True)
    loss = segmentation_loss(logits, t, labels, config) + latent_loss(latents + 1, latents, t, labels, network, config)
    assert float(loss.detach()) == 0
    noisy = noised(latents, torch.zeros_like(latents), t)
    assert not torch.equal(noisy, noised(network.latents_of(torch.zeros_like(void)), torch.zeros_like(latents), t))


def test_source_alone_neither_asks_a_teacher_nor_looks_at_the_target(iccld, monkeypatch) -> None:
    config = iccld(self_training=False, adversary=False)
    method, segmenter, batch = begun(config)
    monkeypatch.setattr(Iccld, "targets", lambda *_: pytest.fail("asked"))
    assert batch.views is not None
    other = dataclasses.replace(batch.views, teacher=255 - batch.views.teacher, student=255 - batch.views.student)
    made = []
    for views in (batch.views, other):
        torch.manual_seed(0)
        made.append(float(method.loss(segmenter, dataclasses.replace(batch, views=views), 5)["loss"].detach()))
    assert made[0] == made[1]
