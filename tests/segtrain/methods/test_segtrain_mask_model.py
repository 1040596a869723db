"""Training the mask model: plainly, and by self-training with SAM; a tiny tower of random weights stands for CLIP's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from doubles.killed_training import Killed, kill_at, weights

from segtrain.config import checked
from segtrain.errors import ConfigError, ModelError
from segtrain.methods.clouds.config import Config
from segtrain.methods.clouds.method import train
from segtrain.methods.few_shot.base_learning import learn_base
from segtrain.methods.few_shot.config import BaseConfig
from segtrain.methods.flex_seg.config import Config as FlexConfig
from segtrain.methods.flex_seg.method import train as train_flex
from segtrain.methods.supervised.method import train as train_plainly
from segtrain.segmenter import load_model

MASKS = {"arch": "clip_masks", "encoder": "small-resnet", "decoder_channels": (), "mask_queries": 5, "mask_width": 32}
MASKS |= {"mask_layers": 1, "crop_px": 64, "learning_rate": 1e-3}


@pytest.fixture(autouse=True)
def tower(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("open_clip")
    text = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None}
    (folder / "small-resnet.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(folder)


@pytest.fixture
def joint(joint_values) -> Callable[..., Config]:
    return lambda **changes: checked(Config, joint_values(**{**MASKS, "steps": 4, "source_share": 0.5, **changes}))


def test_a_plain_training_learns_the_head_alone(settings, tmp_path: Path) -> None:
    config = settings(**MASKS, steps=3, out=tmp_path / "plain")
    loaded = load_model(train_plainly(config), "cpu")
    assert loaded.spec.network == "clip_masks" and loaded.statistics[0] == open_clip.OPENAI_DATASET_MEAN
    assert loaded.predict([np.zeros((40, 50, 3), np.uint8)])[0].shape == (40, 50)
    shorter = load_model(
        train_plainly(settings(**MASKS, steps=2, out=tmp_path / "shorter")), "cpu"
    ).network.state_dict()
    state = loaded.network.state_dict()
    assert all(torch.equal(state[n], shorter[n]) for n in state if n.startswith("encoder."))
    assert any(not torch.equal(state[n], shorter[n]) for n in state if n.startswith("head."))


def test_a_model_trained_at_another_crop_is_a_start(settings, tmp_path: Path) -> None:
    """The number of points of its loss follows from the crop, and no option gives it."""
    first = train_plainly(settings(**MASKS, steps=1, out=tmp_path / "first"))
    larger = settings(**{**MASKS, "crop_px": 96}, steps=1, out=tmp_path / "larger", init_from=first)
    assert (train_plainly(larger) / "config.json").is_file()


def test_self_training_shares_the_tower_with_its_teacher_and_goes_on_after_a_kill(
    joint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {
        "schedule": "constant",
        "checkpoint_every": 1,
        "teacher_every": 1,
        "confidence": "share",
        "threshold": 0.3,
    }
    whole = train(joint(out=tmp_path / "whole", **changes))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 3)
        train(joint(**changes))
    method = torch.load(tmp_path / "model" / "checkpoint.pt", weights_only=True)["method"]
    kept = [name for name in method if name.startswith("teacher.network.encoder.") and "running" not in name]
    assert not [name for name in kept if name.endswith((".weight", ".bias"))]
    assert [name for name in method if name.startswith("teacher.network.head.")]
    assert weights(train(joint(**changes))) == weights(whole)


def test_what_does_not_go_with_it_is_one_line(settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="decoder_channels: clip_masks does not take them"):
        train_plainly(settings(**{**MASKS, "decoder_channels": "8,8,8,8,8"}))
    with pytest.raises(ModelError, match="encoder 'resnet18': open_clip has no such model"):
        train_plainly(settings(**{**MASKS, "encoder": "resnet18"}))
    flex = checked(FlexConfig, settings(**MASKS).model_dump(exclude_unset=True) | {"has": False})
    with pytest.raises(ModelError, match="clip_masks Mask2Former: its decoder takes more than maps"):
        train_flex(flex)
    base = checked(BaseConfig, settings(**MASKS).model_dump(exclude_unset=True) | {"novel": ["disc"]})
    with pytest.raises(ModelError, match="arch clip_masks: POP's classifier goes on networks of smp alone"):
        learn_base(base)


def test_its_settings_count_for_it_alone(settings) -> None:
    assert "mask_queries" not in settings().weight_settings()
    assert settings(**MASKS).weight_settings()["mask_queries"] == 5
