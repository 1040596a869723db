from __future__ import annotations

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn.functional import normalize

from segkit.errors import ModelError
from segkit.labels import Label, LabelSpace
from segkit.networks.folder import NetworkSpec
from segkit.networks.pop import PopNetwork
from segtrain.config import checked
from segtrain.data.batches import StepBatches
from segtrain.data.sample import Sample
from segtrain.methods.few_shot.config import NovelConfig
from segtrain.methods.few_shot.novel_learning import NovelLearning, relabelled
from segtrain.methods.few_shot.prototypes import mean_cosine, start_from_support, take_over
from segtrain.optimiser import Optimiser
from segtrain.segmenter import Segmenter


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
    assert mean_cosine(pop).item() == pytest.approx(2 * 0.5**0.5 / 5)
    base = network(3)
    with torch.no_grad():
        base.base_prototypes[:] = torch.tensor(
            [[1.0, 0, 0, 0, 0, 0, 0, 0], [-1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0]]
        )
    assert mean_cosine(base).item() == pytest.approx(0.5**0.5 / 3)
    assert mean_cosine(network(1)).item() == 0


def test_prototypes_start_orthogonal() -> None:
    assert mean_cosine(network(8)).item() < 1e-6


def test_the_novel_stage_takes_over_the_base_stage() -> None:
    base, pop = network(3), network(3, 2, seed=1)
    take_over(pop, base)
    after = pop.state_dict()
    assert all(torch.equal(after[name], value) for name, value in base.state_dict().items())
    assert torch.equal(after["novel_classifier.2.weight"], after["classifier.2.weight"])


@pytest.mark.parametrize("learn_decoder", [False, True])
def test_only_what_is_novel_learns_in_the_novel_stage(learn_decoder: bool) -> None:
    """And the decoder, if that is asked for; batch statistics of what is frozen must not move either."""
    values = {"data": ["x"], "out": "y", "base_model": "z", "learn_decoder": learn_decoder, "learning_rate": 0.1}
    config = checked(NovelConfig, values)
    pop = network(3, 2)
    optimiser = Optimiser(pop, config, torch.device("cpu"))
    optimiser.regroup(NovelLearning(StepBatches(), config).groups(pop, 0))
    before = {name: value.clone() for name, value in pop.state_dict().items()}
    pop(torch.randn(2, 3, 64, 64)).square().mean().backward()
    optimiser.step(0.1)
    changed = {name for name, value in pop.state_dict().items() if not torch.equal(value, before[name])}
    novel = {"novel_prototypes", *(f"novel_classifier.{n}.weight" for n in (0, 2, 4))}
    of_decoder = {name for name in changed if name.startswith("decoder.")}
    assert changed - of_decoder == novel
    assert bool(of_decoder) == learn_decoder
    assert any(name.endswith("running_mean") for name in of_decoder) == learn_decoder


def test_base_scores_do_not_depend_on_the_novel_classes() -> None:
    base, pop = network(3).eval(), network(3, 2, seed=1).eval()
    take_over(pop, base)
    images = torch.randn(1, 3, 32, 32)
    assert torch.allclose(pop(images)[:, 1:4], base(images)[:, 1:4], atol=1e-6)


def test_more_classes_than_directions_are_refused() -> None:
    with pytest.raises(
        ModelError,
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
    space = LabelSpace("s", tuple(Label(i, str(i)) for i in (0, 4, 7, 9)), background=0)
    segmenter = Segmenter(pop, NetworkSpec({}), space, torch.device("cpu"), ("7", "9"))
    unset = pop.novel_prototypes[1].clone()
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    mask = np.zeros((30, 40), np.uint8)
    mask[5:20, 3:30] = 7
    mask[0, 0] = 255
    start_from_support(segmenter, [Sample(image, mask, "x", "x")])
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
