"""Model folders: what is written is read, old ones too; what a stranger may write in config.json does no harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch
import torch

from segkit.errors import ModelError
from segkit.networks import smp
from segkit.networks.folder import NetworkSpec, create_network, encode, networks, read_config, read_folder

ARGUMENTS = {
    "_model_class": "Unet",
    "encoder_name": "tu-test_efficientnet",
    "encoder_weights": None,
    "in_channels": 3,
    "classes": 3,
    "decoder_channels": [8, 8, 8, 8, 8],
}
LABELS = {"name": "toy", "background": 0, "labels": [{"id": i, "name": n} for i, n in ((0, "a"), (4, "b"), (2, "c"))]}
SPECS = {
    "smp": NetworkSpec(ARGUMENTS),
    "pop": NetworkSpec(ARGUMENTS, "pop", {"num_base": 1, "num_novel": 1}),
    "uncertainty": NetworkSpec(ARGUMENTS, "uncertainty"),
}


def write(folder: Path, spec: NetworkSpec, change: Callable[[dict[str, Any]], None] = lambda config: None) -> Path:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    weights, config = encode(spec, create_network(spec), {"label_space": LABELS})
    change(config)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("name", SPECS)
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    folder = read_folder(write(tmp_path, SPECS[name]))
    torch.manual_seed(0)
    expected = create_network(SPECS[name]).state_dict()
    assert folder.spec.network == name and not folder.network.training
    assert all(torch.equal(value, expected[key]) for key, value in folder.network.state_dict().items())
    assert folder.facts["label_space"] == LABELS and folder.mean == (0.485, 0.456, 0.406)


def test_smp_itself_reads_a_plain_folder(tmp_path: Path) -> None:
    write(tmp_path, SPECS["smp"])
    theirs = segmentation_models_pytorch.from_pretrained(str(tmp_path)).eval()
    image = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(theirs(image), read_folder(tmp_path).network(image))


@pytest.mark.parametrize("name", ["smp", "pop"])
def test_folders_from_before_networks_had_names_are_read(tmp_path: Path, name: str) -> None:
    write(tmp_path, SPECS[name], lambda config: config["_segtrain"].pop("network"))
    assert read_folder(tmp_path).spec == SPECS[name]


def test_a_kind_of_network_is_a_file() -> None:
    assert networks() == ["clip_masks", "latent_diffusion", "mask2former", "pop", "smp", "uncertainty"]


def test_weights_of_a_strangers_config_never_reach_the_network(tmp_path: Path, monkeypatch) -> None:
    """`imagenet` would be downloaded."""
    seen: list[Any] = []
    create = segmentation_models_pytorch.create_model
    monkeypatch.setattr(
        "segkit.networks.smp.smp.create_model", lambda *a, **k: (seen.append(k["encoder_weights"]), create(*a, **k))[1]
    )
    folder = write(tmp_path, SPECS["smp"], lambda config: config.update(encoder_weights="imagenet"))
    read_folder(folder)
    assert seen == [None, None]


def change(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config.update(values)


def change_own(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["_segtrain"].update(values)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (change(zz=1), "argument 'zz' of the network: not known; there are: _model_class, encoder_name"),
        (change(activation="softmax"), "argument 'activation' of the network: not known"),
        (change(encoder_name="tu-hf-hub:a/b"), "argument encoder_name of the network: 'tu-hf-hub:a/b' cannot be"),
        (change(encoder_name="tu-local-dir:/x"), "argument encoder_name"),
        (change(encoder_name=[]), r"argument encoder_name of the network: \[\] cannot be"),
        (change(in_channels=4), "argument in_channels"),
        (change(classes=True), "argument classes"),
        (change(classes=10**9), "argument classes"),
        (change(decoder_channels=[10**9]), "argument decoder_channels"),
        (lambda config: config.pop("_model_class"), "argument _model_class of the network is missing"),
        (change(_model_class="Nonet"), "'Nonet' with encoder 'tu-test_efficientnet': cannot be built"),
        (change(encoder_name="tu-nothing"), "'tu-nothing': cannot be built"),
        (change(_segtrain=[]), "is no config that segtrain wrote"),
        (change_own(version=2), "version 2 of the model format; version 1 is read"),
        (change_own(network="os"), "network 'os': not known; there are: clip_masks, latent_diffusion"),
        (change_own(network="../x"), "network '../x': not known"),
        (change_own(network="folder"), "network 'folder': not known"),
        (change_own(network="sam"), "network 'sam': not known"),
        (change_own(network=["smp"]), r"network \['smp'\]: not known"),
        (change_own(network="pop", pop="x"), "pop: 'x' is no mapping"),
        (change_own(network="pop", pop={"num_base": 1}), "settings must be num_base and num_novel"),
        (change_own(network="pop", pop={"num_base": 9, "num_novel": 1}), "9 base and 1 novel classes, but classes = 3"),
        (change_own(smp={"a": 1}), "network 'smp' takes no settings"),
        (change_own(label_space={"name": "x", "labels": []}), "as many labels as the network has classes"),
        (change_own(mean=[0, 0]), "mean and std must be three numbers each"),
        (change_own(std=[1, 0, 1]), "mean and std must be three numbers each"),
        (change_own(std="abc"), "mean and std must be three numbers each"),
    ],
)
def test_a_strange_config_is_one_line(tmp_path: Path, spoil: Callable[[dict[str, Any]], None], says: str) -> None:
    write(tmp_path, SPECS["smp"], spoil)
    with pytest.raises(ModelError, match=says) as caught:
        read_folder(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_nested_config_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match=r"config\.json: is nested"):
        read_config(tmp_path)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    """Every pixel would be the first class, and a table of scores would come of it."""
    write(tmp_path, SPECS["smp"])
    network = create_network(SPECS["smp"])
    with torch.no_grad():
        network.segmentation_head[0].bias[1] = float("nan")
    (tmp_path / "model.safetensors").write_bytes(encode(SPECS["smp"], network, {})[0])
    with pytest.raises(ModelError, match=r"'segmentation_head\.0\.bias' holds numbers that are not finite"):
        read_folder(tmp_path)


@pytest.mark.parametrize("arch", ["Unet", "FPN", "DeepLabV3Plus", "Linknet", "Segformer", "PSPNet"])
def test_features_and_classes_apart_are_the_network(arch: str) -> None:
    arguments = {key: value for key, value in ARGUMENTS.items() if key != "decoder_channels"}
    spec = NetworkSpec({**arguments, "_model_class": arch, "encoder_name": "resnet18"})
    network = create_network(spec).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(smp.classify(network, smp.features(network, image)), network(image))
