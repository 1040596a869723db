"""`segtrain multi-shift` on a Mask2Former: its scores and losses against loops, and a tiny one trained as a whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from segkit.errors import ModelError
from segkit.networks import mask2former
from segkit.networks.mask2former import MaskFeatures, MaskNetwork, Queries
from segtrain.config import checked
from segtrain.methods.multi_shift.config import Config
from segtrain.methods.multi_shift.mask_losses import drawn_points, mask_losses, point_losses
from segtrain.methods.multi_shift.method import train
from segtrain.methods.multi_shift.uncertainty import read_base, with_learnable_head
from segtrain.segmenter import load_model

CLASSES = [{"id": 0, "name": "ground", "colour": [9, 9, 9]}, {"id": 1, "name": "thing", "colour": [200, 0, 0]}]


def tiny_config(**changes: Any) -> Mask2FormerConfig:
    stages = [f"stage{number}" for number in range(1, 5)]
    swin = SwinConfig(
        image_size=32, embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], window_size=2, out_features=stages
    )
    sizes = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "num_queries": 5, "num_attention_heads": 2}
    depths = {"encoder_layers": 1, "decoder_layers": 3, "encoder_feedforward_dim": 16, "dim_feedforward": 16}
    return Mask2FormerConfig(backbone_config=swin, id2label={0: "ground", 1: "thing"}, **{**sizes, **depths, **changes})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mask2former")
    torch.manual_seed(0)
    Mask2FormerForUniversalSegmentation(tiny_config()).save_pretrained(folder)
    return folder


def settings_of(base: Path) -> dict[str, Any]:
    return mask2former.read_transformers_config(base)[0]


# scores


def test_scores_and_uncertainty_are_those_of_the_paper(base: Path) -> None:
    network = with_learnable_head(base, torch.device("cpu")).network.eval()
    assert isinstance(network, MaskNetwork)
    images = torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = network.features(images)
        theirs = network.network(images)
        last = features.layers[-1]
        torch.testing.assert_close(last.classes, theirs.class_queries_logits[-1] if isinstance(
            theirs.class_queries_logits, tuple) else theirs.class_queries_logits)  # fmt: skip
        by_loops = torch.zeros(2, 2, 8, 16)
        for batch in range(2):
            for query in range(5):
                share = last.classes[batch, query].softmax(0)
                for channel in range(2):
                    by_loops[batch, channel] += share[channel] * last.masks[batch, query].sigmoid()
        torch.testing.assert_close(mask2former.scores(last.classes, last.masks), by_loops)
        whole = functional.interpolate(by_loops, (32, 64), mode="bilinear", align_corners=False)
        torch.testing.assert_close(network.logits(features).exp(), whole)
        greatest = functional.interpolate(
            by_loops.amax(1, keepdim=True), (32, 64), mode="bilinear", align_corners=False
        )
        torch.testing.assert_close(network.uncertainty(features), 1 - greatest[:, 0])
        network.uncertainty_head.weight.mul_(0)
        network.uncertainty_head.bias.copy_(torch.tensor([0.0, 0.0, 50.0]))  # no query is of a known class
        assert (network.uncertainty(features) > 0.999).all()
        torch.testing.assert_close(network.logits(features).exp(), whole)


# losses


def test_points_of_smallest_loss_are_kept_beside_fresh_ones() -> None:
    generator = torch.Generator().manual_seed(2)
    logits, masks = torch.randn(3, 8, 8, generator=generator), (torch.rand(3, 8, 8, generator=generator) > 0.5).float()
    known = torch.ones(8, 8, dtype=torch.bool)
    torch.manual_seed(3)
    places = drawn_points(logits, masks, known, 40, 0.5)
    torch.manual_seed(3)
    many = torch.rand(3, 76, 2)  # 38 / 0.5, of which 38 stay; 2 are fresh
    for number in range(3):
        losses = []
        for x, y in many[number].tolist():
            grid = torch.tensor([[[[2 * x - 1, 2 * y - 1]]]])
            value = functional.grid_sample(logits[number][None, None], grid, align_corners=False)
            truth = masks[number, min(7, int(y * 8)), min(7, int(x * 8))]
            losses.append(float(functional.binary_cross_entropy_with_logits(value.flatten(), truth[None])))
        best = np.argsort(losses)[:38]
        kept = {tuple(place) for place in places[number, :38].tolist()}
        assert kept == {tuple(many[number, n].tolist()) for n in best}
    assert drawn_points(logits, masks, known, 40, 1.0).shape == (3, 40, 2)


def test_unknown_and_unlabelled_points_count_for_nothing() -> None:
    generator = torch.Generator().manual_seed(4)
    logits, masks = torch.randn(2, 8, 8, generator=generator), torch.zeros(2, 8, 8)
    masks[0, :4], masks[1, 4:] = 1.0, 1.0
    known = torch.ones(8, 8, dtype=torch.bool)
    known[:, 6:] = False
    for keep in (1.0, 0.5):
        found = []
        for value in (0.0, 1.0):
            changed = masks.clone()
            changed[:, :, 6:] = value
            torch.manual_seed(5)
            found.append(torch.stack(point_losses(logits, changed, known, 64, keep)))
        torch.testing.assert_close(found[0], found[1])
    torch.manual_seed(5)
    nothing = point_losses(logits, masks, torch.zeros_like(known), 64, 0.5)
    assert torch.isfinite(torch.stack(nothing)).all() and nothing[0] == 0


def test_matched_queries_learn_their_class_and_the_rest_learn_none() -> None:
    """Two queries that are right, three that say none: nearly no loss; and more when one is wrong."""
    masks = torch.full((1, 5, 8, 8), -9.0)
    masks[0, 1, :4], masks[0, 3, 4:] = 9.0, 9.0
    classes = torch.tensor([[[0, 0, 9.0], [9.0, 0, 0], [0, 0, 9.0], [0, 9.0, 0], [0, 0, 9.0]]])
    target = torch.zeros(1, 8, 8, dtype=torch.uint8)
    target[0, 4:] = 1

    def losses(target: torch.Tensor) -> dict[str, float]:
        from transformers.models.mask2former.modeling_mask2former import Mask2FormerHungarianMatcher

        torch.manual_seed(0)
        layer = Queries(torch.zeros(1, 5, 4), masks, classes)
        matcher = Mask2FormerHungarianMatcher(2.0, 5.0, 5.0, 200)
        options = {"points": 200, "keep": 1.0, "no_object_weight": 0.1}
        found = mask_losses(MaskFeatures((layer, layer), (8, 8)), slice(0, 1), target, matcher, **options)
        return {name: float(value) for name, value in found.items()}

    right = losses(target)
    assert right["class"] < 0.01 and right["mask"] < 0.2 and right["dice"] < 0.3
    assert sum(losses(1 - target).values()) > 5
    unlabelled = losses(torch.full_like(target, 255))
    assert unlabelled["mask"] == unlabelled["dice"] == 0 and np.isfinite(unlabelled["class"])


# a training


@pytest.fixture
def config_of(tmp_path: Path, base: Path, write_shards):
    rng = np.random.default_rng(0)
    augmented, originals = [], []
    for _ in range(4):
        image, mask = rng.integers(90, 140, (32, 32, 3), dtype=np.uint8), np.zeros((32, 32), np.uint8)
        image[8:24, 8:24], mask[8:24, 8:24] = 220, 1
        originals.append((image, mask))
        image, mask = image // 2, mask.copy()
        image[26:31, 4:28], mask[26:31, 4:28] = (0, 250, 30), 254
        augmented.append((image, mask))
    data = str(write_shards(tmp_path / "pairs", augmented, originals=originals, classes=CLASSES))

    def make(**changes: Any) -> Config:
        values = {
            "data": [data], "base": base, "out": tmp_path / "model", "steps": 4, "stage1_share": 0.5, "batch_size": 2,
            "crop_px": 32, "margin_batches": 1, "learning_rate": 1e-2, "stage2_learning_rate": 1e-3, "mask_points": 64,
            "device": "cpu",
        }  # fmt: skip
        return checked(Config, {**values, **changes})

    return make


def test_the_backbone_stays_and_the_head_learns_first(config_of, base: Path, tmp_path: Path) -> None:
    # a file of transformers may name its tensors in another way than the network does
    before = Mask2FormerForUniversalSegmentation.from_pretrained(base).state_dict()
    head = "class_predictor.weight"

    def changed(model: Path) -> set[str]:
        after = load_file(model / "model.safetensors")
        moved = [name for name, tensor in before.items() if not torch.equal(tensor, after[f"network.{name}"])]
        parts = {name.split(".")[1] for name in moved if name.startswith("model.")}
        parts |= {"class_predictor"} if not torch.equal(before[head], after[f"network.{head}"]) else set()
        parts |= {"head"} if not torch.equal(before[head], after["uncertainty_head.weight"]) else set()
        encoder = [name for name in before if ".pixel_level_module.encoder." in name]
        assert encoder and all(torch.equal(before[name], after[f"network.{name}"]) for name in encoder)
        return parts

    assert changed(train(config_of(stage1_share=1.0, out=tmp_path / "one"))) == {"head"}
    model = train(config_of())
    assert changed(model) == {"head", "class_predictor", "pixel_level_module", "transformer_module"}
    facts = json.loads((model / "config.json").read_text())["_segtrain"]
    assert facts["network"] == "mask2former" and len(facts["margins"]) == 3
    segmenter = load_model(model, "cpu")
    ((mask, uncertainty),) = segmenter.predict_with_uncertainty([np.full((40, 50, 3), 90, np.uint8)])
    assert mask.shape == uncertainty.shape == (40, 50) and uncertainty.max() <= 1
    assert read_base(model)[1] == "Mask2Former"  # and goes on as a base


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"backbone_config": None}, "is no Mask2Former with its backbone in it"),
        ({"backbone_config": {"model_type": "dinov2"}}, "backbones are swin, resnet"),
        ({"use_timm_backbone": True}, "its backbone lies elsewhere"),
        ({"id2label": {"0": "ground", "2": "thing"}}, r"must name the classes 0\.\.1"),
        ({"hidden_dim": 64}, "cannot be loaded"),
    ],
)
def test_a_folder_that_cannot_be_a_base_is_one_line(base: Path, tmp_path: Path, changes: Any, says: str) -> None:
    (tmp_path / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**json.loads((base / "config.json").read_text()), **changes}))
    with pytest.raises(ModelError, match=says) as caught:
        with_learnable_head(tmp_path, torch.device("cpu"))
    assert "\n" not in str(caught.value)
