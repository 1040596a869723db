from __future__ import annotations

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn.functional import normalize

from segtrain.errors import ConfigError
from segtrain.few_shot.network import PopNetwork
from segtrain.few_shot.novel_learning import relabelled, start_from_support
from segtrain.labels import LabelClass, LabelSpace
from segtrain.model import Segmenter


def network(num_base: int, num_novel: int = 0, seed: int = 0) -> PopNetwork:
    torch.manual_seed(seed)
    plain = smp.create_model(
        "Unet",
        encoder_name="tu-test_efficientnet",
        encoder_weights=None,
        classes=1 + num_base + num_novel,
        decoder_channels=[8, 8, 8, 8, 8],
    )
    return PopNetwork(plain, num_base, num_novel)


@pytest.mark.parametrize(("num_base", "num_novel"), [(3, 0), (1, 0), (3, 2), (1, 1)])
def test_logits_against_classifying_each_part_of_each_pixel(num_base: int, num_novel: int) -> None:
    """The definition: project, classify every projected vector by the whole classifier, the rest as background."""
    pop = network(num_base, num_novel)
    if num_novel:
        with torch.no_grad():
            pop.novel_classifier[0].weight.mul_(-1.3)
    features = torch.randn(2, 8, 3, 5)
    directions = normalize(torch.cat([pop.base_prototypes, *([pop.novel_prototypes] if num_novel else [])]), dim=1)
    expected = []
    rest = features.clone()
    for number, s in enumerate(directions):
        part = (features * s[:, None, None]).sum(1, keepdim=True) * s[:, None, None]
        rest -= part
        expected.append((pop.classifier if number < num_base else pop.novel_classifier)(part))
    expected.insert(0, (pop.novel_classifier if num_novel else pop.classifier)(rest))
    assert torch.allclose(pop.classify(features), torch.cat(expected, dim=1), atol=1e-6)


def test_mean_cosine_counts_each_learnt_pair_once() -> None:
    pop = network(2, 2)
    with torch.no_grad():
        pop.base_prototypes[:] = torch.eye(8)[:2]
        pop.novel_prototypes[0] = torch.tensor([1.0, 1, 0, 0, 0, 0, 0, 0])
        pop.novel_prototypes[1] = torch.tensor([0, 0, 5.0, 0, 0, 0, 0, 0])
    # Four pairs of novel with base, one of novel with novel; the pair of base prototypes is fixed and left out.
    assert pop.mean_cosine().item() == pytest.approx(2 * 0.5**0.5 / 5)
    base = network(3)
    with torch.no_grad():
        base.base_prototypes[:] = torch.tensor(
            [[1.0, 0, 0, 0, 0, 0, 0, 0], [-1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0]]
        )
    assert base.mean_cosine().item() == pytest.approx(0.5**0.5 / 3)
    assert network(1).mean_cosine().item() == 0


def test_prototypes_start_orthogonal() -> None:
    assert network(8).mean_cosine().item() < 1e-6


def test_the_novel_stage_takes_over_the_base_stage_and_leaves_it_as_it_is() -> None:
    base, pop = network(3), network(3, 2, seed=1)
    pop.begin_novel(base)
    learnt = {name for name, parameter in pop.named_parameters() if parameter.requires_grad}
    assert learnt == {"novel_prototypes", *(f"novel_classifier.{n}.weight" for n in (0, 2, 4))}
    before = {name: value.clone() for name, value in pop.state_dict().items()}
    assert all(torch.equal(before[name], value) for name, value in base.state_dict().items())
    assert torch.equal(before["novel_classifier.2.weight"], before["classifier.2.weight"])
    images = torch.randn(2, 3, 32, 32)
    optimiser = torch.optim.SGD([p for p in pop.parameters() if p.requires_grad], lr=0.1)
    pop.train()
    pop(images).square().mean().backward()
    optimiser.step()
    after = pop.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == learnt, "batch statistics must not move either"


@pytest.mark.parametrize("decoder_learns", [False, True])
def test_what_learns_in_the_novel_stage(decoder_learns: bool) -> None:
    pop = network(2, 1)
    if decoder_learns:
        pop.let_decoder_learn()
    pop.train()(torch.randn(2, 3, 64, 64)).square().mean().backward()
    learning = {name.partition(".")[0] for name, parameter in pop.named_parameters() if parameter.grad is not None}
    assert learning == {"novel_prototypes", "novel_classifier"} | ({"decoder"} if decoder_learns else set())
    assert not any(part.training for part in pop.encoder.modules())
    assert any(part.training for part in pop.decoder.modules()) == decoder_learns


def test_base_scores_do_not_depend_on_the_novel_classes() -> None:
    base, pop = network(3).eval(), network(3, 2, seed=1).eval()
    pop.begin_novel(base)
    images = torch.randn(1, 3, 32, 32)
    assert torch.allclose(pop(images)[:, 1:4], base(images)[:, 1:4], atol=1e-6)


def test_more_classes_than_directions_are_refused() -> None:
    with pytest.raises(
        ConfigError,
        match="9 classes need as many orthogonal directions, and the features of this decoder have 8 channels",
    ):
        network(7, 2)


def test_background_of_base_images_is_relabelled_by_background_and_novel_scores_only() -> None:
    logits = torch.tensor([[0.0, 9, 0, 1, 2], [3, 9, 0, 1, 2], [0, 0, 9, 5, 1], [0, 0, 0, 5, 1], [0, 0, 0, 5, 1]]).T[
        None, :, None
    ]
    targets = torch.tensor([[[0, 0, 0, 2, 255]]])
    assert relabelled(targets, logits, num_base=2).tolist() == [[[4, 0, 3, 2, 255]]]


def test_novel_prototypes_start_at_the_mean_feature_without_its_base_part() -> None:
    pop = network(1, 2)
    space = LabelSpace("s", tuple(LabelClass(i, str(i)) for i in (0, 4, 7, 9)), background=0)
    segmenter = Segmenter(pop, {}, space, torch.device("cpu"), ("7", "9"))
    unset = pop.novel_prototypes[1].clone()
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    mask = np.zeros((30, 40), np.uint8)
    mask[5:20, 3:30] = 7
    mask[0, 0] = 255
    start_from_support(segmenter, [(image, mask, "x")])
    pixels = torch.nn.functional.pad(
        torch.from_numpy(image).permute(2, 0, 1)[None].float(), (0, 24, 0, 2), mode="replicate"
    )
    with torch.no_grad():
        features = pop.features(segmenter.normalised(pixels))[0]
    mean = features[:, :30, :40][:, torch.from_numpy(mask == 7)].mean(dim=1)
    s = normalize(pop.base_prototypes[0], dim=0)
    expected = normalize(mean - (mean @ s) * s, dim=0)
    assert torch.allclose(pop.novel_prototypes[0], expected, atol=1e-5)
    assert torch.equal(pop.novel_prototypes[1], unset), "a class without a pixel keeps its random vector"
