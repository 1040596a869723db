"""`segtrain iccld` as a whole: switches, what may not be read, kills, bad input."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles.iccld_steps import begun
from doubles.killed_training import Killed, weights
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from segkit.networks.latent_diffusion import LatentDiffusionNetwork
from segtrain.cli import app
from segtrain.errors import ConfigError, DataError, ModelError, RunError
from segtrain.methods.iccld.adversary import Adversary
from segtrain.methods.iccld.config import Config
from segtrain.methods.iccld.method import Iccld, train
from segtrain.segmenter import load_model


@pytest.fixture
def stable_diffusion(tmp_path: Path) -> Path:
    """A folder of diffusers with a UNet of two levels and its autoencoder, random weights of a few channels."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=[16, 32],
        down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"],
        cross_attention_dim=16,
        norm_num_groups=8,
        layers_per_block=1,
        attention_head_dim=8,
    )
    vae = AutoencoderKL(
        block_out_channels=[8] * 4,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        latent_channels=4,
        norm_num_groups=4,
    )
    unet.save_pretrained(tmp_path / "sd" / "unet")
    vae.save_pretrained(tmp_path / "sd" / "vae")
    return tmp_path / "sd"


def killed_after(config: Config, done: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, and die after the step of that number; its checkpoint is not yet written."""
    after = Iccld.after_step

    def killed(self: Iccld, segmenter: Any, batch: Any, losses: Any, step: int) -> None:
        after(self, segmenter, batch, losses, step)
        if step == done:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Iccld, "after_step", killed)
        with pytest.raises(Killed):
            train(config)


def test_the_model_samples_and_loads(iccld, tmp_path: Path) -> None:
    folder = train(iccld(out=tmp_path / "m", sampling_steps=2, samples=3))
    assert "pseudo_labels" in json.loads((folder / "config.json").read_text(encoding="utf-8"))["_segtrain"]
    segmenter = load_model(folder, "cpu")
    assert isinstance(segmenter.network, LatentDiffusionNetwork)
    assert (segmenter.network.shape.steps, segmenter.network.shape.samples) == (2, 3)
    image = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    [mask] = segmenter.predict([image])
    assert mask.shape == (40, 50) and set(np.unique(mask)) <= {0, 5}


@pytest.mark.parametrize(
    "changes",
    [
        {"diffusion": False, "adversary": False},
        {"intercoder": False},
        {"adversary": False},
        {"self_training": False},
        {"low_t": "none"},
        {"low_t": "weight"},
        {"adversary_mixed": False},
        {"latent_weight": 0.0},
        {"class_mix": 0.0},
    ],
)
def test_each_switch_changes_what_is_learnt(iccld, tmp_path: Path, changes: dict[str, Any]) -> None:
    # the discriminator's rate is high, so that whom it is taught by shows within a few steps
    fast = {"adversary_weight": 1.0, "discriminator_learning_rate": 0.5}
    whole = train(iccld(out=tmp_path / "whole", **fast))
    assert weights(train(iccld(out=tmp_path / "changed", **{**fast, **changes}))) != weights(whole)


@pytest.mark.parametrize("done", [1, 3, 5])
def test_a_killed_training_ends_with_the_same_weights(iccld, tmp_path: Path, monkeypatch, done: int) -> None:
    whole = train(iccld(out=tmp_path / "whole"))
    config = iccld(out=tmp_path / "cut", checkpoint_every=1)
    killed_after(config, done, monkeypatch)
    assert weights(train(config)) == weights(whole)


def test_the_form_of_full_size_trains_goes_on_after_a_kill_and_loads(
    iccld, stable_diffusion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    form = {"form": "unet", "unet": stable_diffusion, "discriminator_layers": 1}
    whole = train(iccld(out=tmp_path / "whole", **form))
    segmenter = load_model(whole, "cpu")
    [mask] = segmenter.predict([np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)])
    assert mask.shape == (40, 50)
    cut = iccld(out=tmp_path / "cut", checkpoint_every=1, **form)
    killed_after(cut, 4, monkeypatch)
    kept = torch.load(tmp_path / "cut" / "checkpoint.pt", weights_only=True)
    assert any(".unet." in name for name in kept["method"]) and not any(".vae." in name for name in kept["method"])
    moved = stable_diffusion.rename(tmp_path / "elsewhere")
    assert weights(train(cut.model_copy(update={"unet": moved}))) == weights(whole)
    with caplog.at_level(logging.INFO):
        train(iccld(out=tmp_path / "dry", dry_run=True, **{**form, "unet": moved}))
    [line] = [text for text in caplog.messages if text.startswith("dry run")]
    every, learns, *_ = (int(word) for word in line.split() if word.isdigit())
    held = sum(p.numel() for name, p in segmenter.network.named_parameters() if name.startswith("denoiser.vae."))
    assert every - learns == held > 0


def test_another_unet_in_the_same_folder_is_another_training(
    iccld, stable_diffusion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = iccld(form="unet", unet=stable_diffusion, discriminator_layers=1, checkpoint_every=1)
    killed_after(config, 1, monkeypatch)
    weights_of_unet = stable_diffusion / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights_of_unet)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, weights_of_unet)
    with pytest.raises(RunError, match="belongs to a training with unet = "):
        train(config)


@pytest.mark.parametrize("form", ["light", "unet"])
def test_a_frozen_encoder_stays_as_it_is(iccld, stable_diffusion: Path, tmp_path: Path, form: str) -> None:
    of_form = {"form": form, "unet": stable_diffusion, "discriminator_layers": 1, "steps": 3}
    base = train(iccld(out=tmp_path / "base", **of_form))
    model = train(iccld(out=tmp_path / "m", base=base, freeze_encoder=True, **of_form))
    before, after = (load_file(folder / "model.safetensors") for folder in (base, model))
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same >= {name for name in before if name.startswith(("encoder.", "denoiser.vae."))}
    assert any(name.startswith("denoiser.") and ".vae." not in name for name in before.keys() - same)


@pytest.mark.parametrize("adversary", [True, False])
def test_a_model_that_learnt_of_no_pseudo_label_tells_of_none(
    iccld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adversary: bool
) -> None:
    alone = {"self_training": False, "adversary": adversary, "crop_px": 64}  # of 32 px two crops are too few
    whole = train(iccld(out=tmp_path / "whole", **alone))
    cut = iccld(out=tmp_path / "cut", checkpoint_every=1, **alone)
    killed_after(cut, 4, monkeypatch)
    told = [
        json.loads((train(config) / "config.json").read_text(encoding="utf-8"))["_segtrain"]
        for config in (iccld(out=whole, **alone), cut)
    ]
    assert told[0] == told[1] and "pseudo_labels" not in told[0]


def test_a_finished_training_is_made_longer(iccld, tmp_path: Path) -> None:
    first = train(iccld(out=tmp_path / "first"))
    _, segmenter, _ = begun(iccld(init_from=first, sampling_steps=9, seed=5))
    network = segmenter.network
    assert isinstance(network, LatentDiffusionNetwork) and network.shape.steps == 9
    learnt = load_file(first / "model.safetensors")
    assert all(torch.equal(tensor, learnt[name]) for name, tensor in network.state_dict().items())
    with pytest.raises(ModelError, match=r"its scale is 0\.1, here it is 0\.5: give the options that it was trained"):
        begun(iccld(init_from=first, latent_scale=0.5))
    plain = train(iccld(diffusion=False, adversary=False, out=tmp_path / "plain"))
    with pytest.raises(ModelError, match='its network is "smp", here it is "latent_diffusion"'):
        begun(iccld(init_from=plain))


def test_what_a_base_model_is_not_is_one_line(iccld, tmp_path: Path) -> None:
    base = train(iccld(out=tmp_path / "base"))
    begun(iccld(base=base, width=8, bits=2))
    with pytest.raises(ConfigError, match=rf"^sampling_steps 9: that of base {base} is 3: leave one of them out$"):
        begun(iccld(base=base, sampling_steps=9))
    with pytest.raises(ConfigError, match=rf"^base {base}: denoises label latents: leave --no-diffusion out"):
        begun(iccld(base=base, diffusion=False, adversary=False))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"discriminator_layers": 4}, "32 px the denoiser's middle features are 8 x 8, .* take 3 at the most"),
        ({"form": "unet"}, "middle features are 2 x 2, halved so often there is nothing left: take 1 at the most"),
    ],
)
def test_a_discriminator_that_halves_to_nothing_is_one_line_before_a_step(
    iccld, stable_diffusion: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        train(iccld(out=tmp_path / "m", unet=stable_diffusion, **changes))
    assert not (tmp_path / "m").exists()


def test_source_and_target_are_names_of_the_command(iccld, tmp_path: Path) -> None:
    config = iccld()
    words = ["iccld", "--source", config.data[0], "--target", config.unlabelled[0], "--out", str(tmp_path / "m")]
    words += ["--steps", "1", "--batch-size", "2", "--crop", "32", "--width", "8", "--discriminator-layers", "2"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "m" / "model.safetensors").is_file()


def test_bad_input_is_one_line(iccld, tmp_path: Path, settings, write_folder, pairs) -> None:
    with pytest.raises(ModelError, match="bits 1: tell 1 classes from one another and from none, there are 2: take 2"):
        train(iccld(bits=1, out=tmp_path / "a"))
    with pytest.raises(ConfigError, match="no-diffusion leaves out"):
        iccld(diffusion=False)
    with pytest.raises(
        ConfigError, match="arch clip_masks: latent diffusion takes the encoder of an architecture of smp"
    ):
        iccld(arch="clip_masks")
    with pytest.raises(ConfigError, match="begins with a trained model"):
        iccld(form="unet")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ModelError, match="holds no unet/ and vae/"):
        train(iccld(form="unet", unet=tmp_path / "nothing", out=tmp_path / "b"))
    plain = train(iccld(diffusion=False, adversary=False, out=tmp_path / "plain"))
    with pytest.raises(ConfigError, match="is no model of `segtrain iccld`"):
        train(iccld(base=plain, out=tmp_path / "c"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no picture in it"):
        train(iccld(unlabelled=[str(empty)], out=tmp_path / "d"))
    train(iccld(out=tmp_path / "m"))
    with pytest.raises(RunError):
        train(iccld(out=tmp_path / "m", latent_scale=0.5))
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


@pytest.mark.parametrize("diffusion", [True, False])
def test_labelled_crops_that_are_alone_and_too_few_are_one_line(iccld, tmp_path: Path, diffusion: bool) -> None:
    alone = {"diffusion": diffusion, "adversary": False, "self_training": False}
    with pytest.raises(ConfigError, match=r"^batch_size 2: some steps have no labelled crop, and unlabelled ones are "):
        train(iccld(batch_size=2, out=tmp_path / "none", **alone))
    says = r"^Unet with encoder \S+: cannot learn from 1 crop of 32 px at once: .*: raise --crop or --batch-size$"
    with pytest.raises(ModelError, match=says):
        train(iccld(batch_size=3, out=tmp_path / "one", **alone))
    assert not (tmp_path / "none").exists() and not (tmp_path / "one").exists()
    train(iccld(batch_size=3, crop_px=64, steps=2, out=tmp_path / "larger", **alone))
    train(iccld(batch_size=2, steps=2, out=tmp_path / "together", diffusion=diffusion, adversary=False))


@pytest.mark.parametrize("mixed", [True, False])
def test_a_step_without_a_labelled_crop_tells_the_discriminator_nothing_of_the_source(
    iccld, mixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    learn = Adversary.learn

    def watched(self: Adversary, source: Any, target: Any, rate: float) -> torch.Tensor:
        loss = learn(self, source, target, rate)
        told.append(([len(features) for features, _ in source], loss.item()))
        return loss

    monkeypatch.setattr(Adversary, "learn", watched)
    train(iccld(batch_size=2, steps=6, adversary_start=0, adversary_mixed=mixed))  # the fifth step has none
    assert len(told) == (5 if mixed else 4), "of the third step both crops are labelled"
    assert all(min(sizes) > 0 and np.isfinite(loss) for sizes, loss in told)
    assert [2] in [sizes for sizes, _ in told] or not mixed
