"""Pairs, a base model and settings for the tests of `segtrain multi-shift`; data and settings for those of `segtrain
iccld`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles.street_pairs import MakeConfig, street_pairs
from PIL import Image

from segtrain.config import checked
from segtrain.methods.iccld.config import Config as IccldConfig
from segtrain.methods.multi_shift.config import Config
from segtrain.methods.supervised.method import train as train_base


@pytest.fixture
def pair_data(tmp_path: Path, write_shards) -> Path:
    augmented, originals = street_pairs()
    return write_shards(tmp_path / "pairs", augmented, originals=originals)


@pytest.fixture(params=[("DeepLabV3Plus", "resnet18")])
def base(request, tmp_path: Path, pair_data: Path, settings) -> Path:
    arch, encoder = request.param
    changes = {"arch": arch, "encoder": encoder, "decoder_channels": "", "steps": 2, "batch_size": 2}
    return train_base(settings(data=[str(pair_data)], out=tmp_path / "base", **changes))


@pytest.fixture
def config_of(tmp_path: Path, pair_data: Path, base: Path) -> MakeConfig:
    def make(**changes: Any) -> Config:
        values = {
            "data": [str(pair_data)],
            "base": base,
            "out": tmp_path / "model",
            "steps": 6,
            "stage1_share": 0.5,
            "batch_size": 2,
            "crop_px": 32,
            "margin_batches": 2,
            "learning_rate": 1e-2,
            "stage2_learning_rate": 1e-3,
            "checkpoint_every": 2,
            "log_every": 1,
            "object_scale_min": 0.5,
            "device": "cpu",
        }
        return checked(Config, {**values, **changes})

    return make


@pytest.fixture
def iccld(settings, tmp_path: Path, write_folder, pairs) -> Callable[..., IccldConfig]:
    """5 labelled pictures, 4 photographs, 6 steps of 4, the adversary from the third step on."""
    data = str(write_folder(tmp_path / "labelled", pairs(5)))
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(image).save(photographs / f"p{number}.png")
    small = {"width": 8, "adversary_start": 0.34, "discriminator_width": 4, "discriminator_layers": 2}

    def make(**changes: Any) -> IccldConfig:
        values = settings(data=[data], steps=6, batch_size=4).model_dump(exclude_unset=True)
        return checked(IccldConfig, {**values, "unlabelled": [str(photographs)], **small, **changes})

    return make
