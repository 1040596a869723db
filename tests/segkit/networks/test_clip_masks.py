"""Mask2Former on a frozen CLIP tower: shapes, what never learns, its loss, its folder. Towers of random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from segkit.errors import ModelError
from segkit.networks.clip_masks import ClipMasks
from segkit.networks.folder import NetworkSpec, create_network, encode, read_folder

ARGUMENTS = {
    "_model_class": "Mask2Former",
    "encoder_name": "tiny-resnet",
    "encoder_weights": None,
    "in_channels": 3,
    "classes": 3,
}
SETTINGS = {"queries": 6, "width": 32, "decoder_layers": 2, "encoder_layers": 1, "points": 256}
LABELS = {"name": "toy", "background": 0, "labels": [{"id": i, "name": n} for i, n in ((0, "a"), (4, "b"), (2, "c"))]}


@pytest.fixture(autouse=True)
def tiny(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two models that open_clip builds as any of its own: a ResNet and a vision transformer."""
    folder = tmp_path_factory.mktemp("open_clip")
    text = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
    towers = {
        "tiny-resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
        "tiny-vit": {"image_size": 64, "layers": 4, "width": 16, "head_width": 8, "patch_size": 16},
    }
    for name, vision in towers.items():
        (folder / f"{name}.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(folder)


def build(**changes: Any) -> ClipMasks:
    torch.manual_seed(0)
    network = create_network(NetworkSpec({**ARGUMENTS, **changes}, "clip_masks", SETTINGS))
    assert isinstance(network, ClipMasks)
    return network


def test_costs_and_losses_are_float32_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    network, kinds = build(), []
    criterion = network.head.criterion.forward

    def watched(*given: Any, **named: Any) -> Any:
        kinds.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)  # what a matrix product of costs would have
        return criterion(*given, **named)

    monkeypatch.setattr(network.head.criterion, "forward", watched)
    with torch.autocast("cpu", torch.bfloat16):
        loss = network.mask_loss(torch.randn(2, 3, 64, 64), torch.randint(0, 3, (2, 64, 64)))
    assert set(kinds) == {torch.float32} and loss.dtype == torch.float32


def test_scores_are_sums_over_queries_of_class_times_mask() -> None:
    network, images = build().eval(), torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        made = network(images)
        classes, masks = network.head(network.encoder(images))
    assert made.shape == (2, 3, 64, 96) and torch.isfinite(made).all()
    assert len(classes) == len(masks) == 3 and classes[-1].shape == (2, 6, 4) and masks[-1].shape == (2, 6, 16, 24)
    spread = torch.nn.functional.interpolate(masks[-1], (64, 96), mode="bilinear", align_corners=False).sigmoid()
    expected = torch.zeros(2, 3, 64, 96)
    for query in range(6):
        share = classes[-1][:, query].softmax(-1)
        for channel in range(3):
            expected[:, channel] += share[:, channel, None, None] * spread[:, query]
    assert torch.allclose(made.exp(), expected, atol=1e-5)


def test_the_tower_never_learns_and_always_infers() -> None:
    network = build().train()
    assert not any(p.requires_grad for p in network.encoder.parameters())
    assert not any(module.training for module in network.encoder.modules()) and network.head.training
    before = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    network.mask_loss(torch.randn(2, 3, 64, 64), torch.randint(0, 3, (2, 64, 64))).backward()
    assert all(torch.equal(value, before[name]) for name, value in network.encoder.state_dict().items())
    assert all(p.grad is not None for name, p in network.head.named_parameters() if "class_predictor" in name)


def test_it_learns_a_picture() -> None:
    network = build().train()
    image, target = torch.zeros(1, 3, 64, 64), torch.zeros(1, 64, 64, dtype=torch.int64)
    target[:, 16:48, 16:48] = 2
    image[:, :, 16:48, 16:48] = 3.0
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], 2e-3)
    losses = []
    for _ in range(60):
        loss = network.mask_loss(image, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    with torch.no_grad():
        predicted = network.eval()(image).argmax(dim=1)
    assert losses[-1] < 0.5 * losses[0]
    assert (predicted == target).float().mean() > 0.8 and not (predicted == 1).any()


def loss_of(network: ClipMasks, image: torch.Tensor, target: torch.Tensor) -> tuple[float, torch.Tensor]:
    """With one set of points, and its gradient by the last masks' pixels, as the picture's gradient."""
    torch.manual_seed(7)
    masks: list[torch.Tensor] = []

    def kept(module: Any, arguments: Any, made: Any) -> None:
        masks.extend(made[1])
        for layer in made[1]:
            layer.retain_grad()

    handle = network.head.register_forward_hook(kept)
    loss = network.mask_loss(image, target)
    loss.backward()
    handle.remove()
    gradient = masks[-1].grad
    assert gradient is not None
    return loss.item(), gradient.abs().sum(dim=(0, 1))


def test_unknown_pixels_teach_no_mask_and_uncovered_ones_teach_every_mask() -> None:
    network, image = build().train(), torch.randn(1, 3, 64, 64)
    target = torch.zeros(1, 64, 64, dtype=torch.int64)
    target[:, :, 32:] = 255
    _, unknown = loss_of(network, image, target)
    target[:, :, 32:] = 254
    _, uncovered = loss_of(network, image, target)
    assert unknown.shape == (16, 16)
    assert (unknown[:, 9:] == 0).all() and unknown[:, :7].sum() > 0
    assert uncovered[:, 9:].sum() > 0


def test_a_batch_without_any_label_has_a_loss_that_is_a_number() -> None:
    network = build().train()
    loss = network.mask_loss(torch.randn(2, 3, 64, 64), torch.full((2, 64, 64), 255))
    loss.backward()
    assert torch.isfinite(loss)
    mixed = torch.full((2, 64, 64), 255)
    mixed[0, :32] = 1
    assert torch.isfinite(network.mask_loss(torch.randn(2, 3, 64, 64), mixed))


def test_the_folder_holds_all_of_it(tmp_path: Path) -> None:
    network = build()
    spec = NetworkSpec(ARGUMENTS, "clip_masks", SETTINGS)
    weights, config = encode(spec, network, {"label_space": LABELS})
    (tmp_path / "model.safetensors").write_bytes(weights)
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = read_folder(tmp_path)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.network(image), network.eval()(image))
    assert loaded.spec.settings == SETTINGS


@pytest.mark.parametrize(
    ("arguments", "settings", "says"),
    [
        ({"encoder_name": "nothing"}, SETTINGS, "encoder 'nothing': open_clip has no such model"),
        ({"encoder_name": "roberta-ViT-B-32"}, SETTINGS, "its text tower lies on a hub"),
        ({"encoder_name": "tiny-vit"}, SETTINGS, "its maps have not the strides 4, 8, 16, 32"),
        ({"_model_class": "Unet"}, SETTINGS, "is Mask2Former, not 'Unet'"),
        ({}, {**SETTINGS, "width": 48}, "width 48 is not a multiple of 32"),
        ({}, {"heads": 2}, "settings are whole numbers queries, width"),
        ({}, {"queries": 0}, "settings are whole numbers"),
        ({}, {"queries": True}, "settings are whole numbers"),
    ],
)
def test_what_cannot_be_built_is_one_line(arguments: dict[str, Any], settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says) as error:
        create_network(NetworkSpec({**ARGUMENTS, **arguments}, "clip_masks", settings))
    assert "\n" not in str(error.value)
