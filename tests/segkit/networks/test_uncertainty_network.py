"""The uncertainty head: energy of the plain network at first, energy before upsampling, its own weights after."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from segkit.errors import ModelError
from segkit.networks import smp
from segkit.networks.folder import NetworkSpec, create_network
from segkit.networks.pop import PopNetwork
from segkit.networks.uncertainty import UncertaintyNetwork, with_uncertainty


def arguments(arch: str = "FPN") -> dict[str, Any]:
    return {
        "_model_class": arch,
        "encoder_name": "resnet18",
        "encoder_weights": None,
        "in_channels": 3,
        "classes": 4,
    }


@pytest.fixture(params=["FPN", "Unet", "DeepLabV3Plus", "Segformer", "Linknet"])
def plain(request) -> Any:
    torch.manual_seed(1)
    network = smp.build(arguments(request.param), {}, None).eval()
    for parameter in network.segmentation_head.parameters():
        torch.nn.init.normal_(parameter)
    return network


@torch.inference_mode()
def test_a_new_head_gives_the_energy_of_the_plain_network(plain) -> None:
    """Energy first, upsampling second: the same two steps, written out on the plain network's parts."""
    images = torch.randn(2, 3, 64, 96)
    expected = plain(images)
    scores = plain.segmentation_head[0](plain.decoder(plain.encoder(images)))
    energy = plain.segmentation_head[1](-scores.double().exp().sum(dim=1, keepdim=True).log())[:, 0]
    network = with_uncertainty(plain)
    phi = network.features(images)
    assert torch.equal(network(images), expected) and torch.equal(network.logits(phi), expected)
    uncertainty = network.uncertainty(phi)
    assert uncertainty.shape == (2, 64, 96) and uncertainty.dtype == torch.float32
    assert torch.allclose(uncertainty.double(), energy, atol=1e-5)


@torch.inference_mode()
def test_energy_comes_before_upsampling() -> None:
    """Halfway between two cells it is the mean of two energies; the energy of the mean scores would be higher."""
    torch.manual_seed(0)
    network = with_uncertainty(smp.build(arguments(), {}, None).eval())
    torch.nn.init.normal_(network.uncertainty_head.weight, std=3.0)
    phi = network.features(torch.randn(1, 3, 64, 64))
    other = -network.upsampling(network.uncertainty_head(phi)).logsumexp(dim=1)
    assert (other - network.uncertainty(phi)).max() > 0.05


def test_the_head_learns_apart_from_the_classifier() -> None:
    network = with_uncertainty(smp.build(arguments(), {}, None).eval())
    phi = network.features(torch.randn(1, 3, 32, 32)).detach()
    network.uncertainty(phi).sum().backward()
    assert network.uncertainty_head.weight.grad is not None and network.classifier.weight.grad is None
    before = network.logits(phi).detach()
    with torch.no_grad():
        network.uncertainty_head.weight.mul_(2)
    assert torch.equal(network.logits(phi), before)


def test_a_network_with_the_head_stays_itself() -> None:
    network = with_uncertainty(smp.build(arguments(), {}, None))
    with torch.no_grad():
        network.uncertainty_head.weight.add_(1)
    assert with_uncertainty(network) is network and isinstance(network, UncertaintyNetwork)


def test_networks_without_such_a_classifier_are_refused_in_one_line() -> None:
    with pytest.raises(ModelError, match="PopNetwork: no uncertainty head goes on it"):
        with_uncertainty(PopNetwork(smp.build(arguments(), {}, None), 1))
    with pytest.raises(ModelError, match="takes no settings"):
        create_network(NetworkSpec(arguments(), "uncertainty", {"temperature": 1}))
