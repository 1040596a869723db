from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from segkit.labels import Label, LabelSpace
from segkit.networks.folder import NetworkSpec
from segtrain.errors import ConfigError, DataError, ModelError
from segtrain.segmenter import Segmenter, build_segmenter, choose_device, load_model, save_model

ANY = NetworkSpec({})
SPACE = LabelSpace("toy", (Label(0, "ground"), Label(9, "box"), Label(4, "disc")), background=0)


class ByRed(torch.nn.Module):
    """Stands for a network: channel 0, 1 or 2 by the red of the pixel, which is 0, 100 or 200."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[2] % 32 == images.shape[3] % 32 == 0
        red = images[:, 0] * 0.229 * 255 + 0.485 * 255
        return torch.stack([-(red - wanted).abs() for wanted in (0, 100, 200)], dim=1)


@pytest.fixture
def segmenter(settings) -> Segmenter:
    return build_segmenter(settings(), SPACE, torch.device("cpu"))


def test_predict_gives_ids_at_the_size_of_each_image_in_order() -> None:
    """Sizes that are and are not multiples of 32, mixed; the class list is not sorted by id."""
    rng = np.random.default_rng(0)
    by_red = Segmenter(ByRed(), ANY, SPACE, torch.device("cpu"))
    images = []
    for size in [(40, 33), (32, 64), (1, 5), (40, 33), (100, 31), (40, 33)]:
        red = rng.choice([0, 100, 200], size=size)
        images.append(np.stack([red, red * 0, red * 0], axis=2).astype(np.uint8))
    masks = by_red.predict(images, batch_size=2)
    for image, mask in zip(images, masks, strict=True):
        assert mask.dtype == np.uint8
        assert np.array_equal(mask, np.array([0, 9, 4])[image[..., 0] // 100])
    assert by_red.predict([]) == []


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8)],
)
def test_predict_refuses_what_is_no_image(image: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"image 1: shape .* must be \(H, W, 3\) uint8"):
        Segmenter(ByRed(), ANY, SPACE, torch.device("cpu")).predict([np.zeros((8, 8, 3), np.uint8), image])


def test_large_pictures_share_a_batch_with_fewer_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight photographs of twelve megapixels at once would take as much memory as eight times one of them."""
    monkeypatch.setattr("segtrain.segmenter._MOST_PIXELS", 3 * 64 * 64)
    network, seen = ByRed(), []
    network.register_forward_hook(lambda _, given, __: seen.append(tuple(given[0].shape[::2])))
    sizes = [64] * 8 + [32] * 10 + [320] * 2
    masks = Segmenter(network, ANY, SPACE, torch.device("cpu")).predict([np.zeros((s, s, 3), np.uint8) for s in sizes])
    assert [len(mask) for mask in masks] == sizes
    assert seen == [(3, 64), (3, 64), (2, 64), (8, 32), (2, 32), (1, 320), (1, 320)]


def test_a_size_that_the_network_cannot_take_is_one_line(settings) -> None:
    """PAN halves what a deep encoder leaves three times more: of 64 px nothing is left."""
    pan = build_segmenter(settings(arch="PAN", encoder="resnet18", decoder_channels=""), SPACE, torch.device("cpu"))
    says = r"^PAN with encoder resnet18: cannot take pictures of 64 x 96 px \(H x W\): .*: give it pictures of another"
    with pytest.raises(DataError, match=says):
        pan.predict([np.zeros((60, 90, 3), np.uint8)])
    assert pan.network.training and len(pan.predict([np.zeros((128, 128, 3), np.uint8)])) == 1


def test_predict_leaves_the_network_as_it_was(segmenter: Segmenter) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for training in (True, False):
        segmenter.network.train(training)
        before = {name: tensor.clone() for name, tensor in segmenter.network.state_dict().items()}
        segmenter.predict([image])
        assert segmenter.network.training is training
        assert all(torch.equal(before[name], tensor) for name, tensor in segmenter.network.state_dict().items())


def test_a_saved_model_loads_with_the_same_weights_and_labels(segmenter: Segmenter, tmp_path: Path) -> None:
    save_model(segmenter, tmp_path, steps=3)
    loaded = load_model(tmp_path, "cpu")
    assert loaded.label_space == SPACE
    image = torch.randint(0, 256, (1, 3, 64, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    segmenter.network.eval()
    assert torch.equal(loaded.logits(image), segmenter.logits(image))
    assert json.loads((tmp_path / "config.json").read_text())["_segtrain"]["steps"] == 3


def test_smp_itself_loads_the_folder(segmenter: Segmenter, tmp_path: Path) -> None:
    save_model(segmenter, tmp_path)
    network = smp.from_pretrained(tmp_path).eval()
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    # not bit by bit: ours has its channels side by side
    torch.testing.assert_close(network(image), segmenter.network.eval()(image), rtol=1e-4, atol=1e-5)


def test_the_weights_are_a_function_of_the_seed_and_leave_the_global_numbers_alone(settings) -> None:
    before = torch.get_rng_state()
    states = [
        build_segmenter(settings(seed=seed), SPACE, torch.device("cpu")).network.state_dict() for seed in (1, 1, 2)
    ]
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["segmentation_head.0.weight"], states[2]["segmentation_head.0.weight"])


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"arch": "Nonet"}, ModelError, "arch 'Nonet': no such architecture; there are: Unet, "),
        ({"encoder": "resnet1"}, ModelError, "'Unet' with encoder 'resnet1': cannot be built"),
        ({"encoder": "tu-nothing"}, ModelError, "'Unet' with encoder 'tu-nothing': cannot be built"),
        ({"encoder": "resnet18", "encoder_weights": "mine"}, ModelError, "cannot be built.*mine"),
        ({"decoder_channels": "8,8"}, ConfigError, "decoder_channels: 2 numbers, Unet has 5 decoder blocks"),
        ({"arch": "FPN"}, ConfigError, "decoder_channels: FPN does not take them"),
    ],
)
def test_a_model_that_cannot_be_built_gives_one_line(
    settings, changes: dict[str, str], kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says) as caught:
        build_segmenter(settings(**changes), SPACE, torch.device("cpu"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arch", ["fpn", "Linknet"])
def test_other_architectures_train_and_travel(settings, tmp_path: Path, arch: str) -> None:
    segmenter = build_segmenter(
        settings(arch=arch, encoder="resnet18", decoder_channels=""), SPACE, torch.device("cpu")
    )
    assert segmenter.logits(torch.zeros(2, 3, 64, 32, dtype=torch.uint8)).shape == (2, 3, 64, 32)
    save_model(segmenter, tmp_path)
    assert load_model(tmp_path, "cpu").predict([np.zeros((20, 70, 3), np.uint8)])[0].shape == (20, 70)


def change_config(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return change


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json, so no model"),
        (
            lambda folder: (folder / "config.json").write_text("{"),
            "(is no config that segtrain wrote|cannot be read as JSON)",
        ),
        (
            lambda folder: (folder / "config.json").write_text("[]"),
            "(is no config that segtrain wrote|cannot be read as JSON)",
        ),
        (change_config(_segtrain={"version": 1}), "is no config that segtrain wrote"),
        (change_config(_segtrain={"version": 9, "label_space": SPACE.to_json()}), "version 9 of the model format"),
        (change_config(classes=7), "label_space must list as many labels as the network has classes"),
        (change_config(decoder_channels=[8, 8, 8, 8, 4]), "model.safetensors: cannot be loaded: .*size mismatch"),
        (change_config(_model_class="Nonet"), "'Nonet' with encoder .*cannot be built"),
        (cut, "model.safetensors: cannot be loaded"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors: cannot be loaded"),
    ],
)
def test_a_broken_model_folder_gives_one_line(
    segmenter: Segmenter, tmp_path: Path, spoil: Callable[[Path], None], says: str
) -> None:
    save_model(segmenter, tmp_path)
    spoil(tmp_path)
    with pytest.raises(ModelError, match=says) as caught:
        load_model(tmp_path, "cpu")
    assert "\n" not in str(caught.value)


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="device 'warp': not usable here"):
        choose_device("warp")
    with pytest.raises(ConfigError, match="device 'cuda:77': not usable here"):
        choose_device("cuda:77")
