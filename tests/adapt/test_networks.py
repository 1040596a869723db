"""The base, its low-rank change, and a ControlNet that starts as its copy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from synthgen.adapt.networks import (
    add_lora,
    control_config,
    load_denoiser,
    merge_lora,
    new_controlnet,
    read_base,
    require_size,
    save_lora,
    whole_controlnet,
)
from synthgen.adapt_settings import ControlNet, Lora
from synthgen.errors import ModelError, RecipeError


def inputs(channels: int = 4) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return {
        "hidden_states": torch.randn(2, 4, 16, 24, generator=rng),
        "encoder_hidden_states": torch.randn(2, 16, 64, generator=rng),
        "pooled_projections": torch.randn(2, 64, generator=rng),
        "timestep": torch.tensor([200.0, 700.0]),
        "controlnet_cond": torch.randn(2, channels, 16, 24, generator=rng),
    }


def residuals(net: Any, channels: int = 4) -> tuple[torch.Tensor, ...]:
    parts: tuple[torch.Tensor, ...] = net(**inputs(channels), return_dict=False)[0]
    return parts


def predicted(denoiser: Any) -> torch.Tensor:
    given = inputs()
    del given["controlnet_cond"]
    with torch.no_grad():
        velocity: torch.Tensor = denoiser(**given, return_dict=False)[0]
    return velocity


def test_the_configuration_is_the_bases_own_with_the_flags_that_fit_the_training(base: Path) -> None:
    read = read_base(str(base))
    before = json.dumps(dict(read.denoiser), default=str)
    config = control_config(read, ControlNet(), 0)
    assert config["num_layers"] == 1
    assert config["force_zeros_for_pooled_projection"] is False
    assert config["extra_conditioning_channels"] == 0
    assert config["joint_attention_dim"] == 64
    assert not [name for name in config if name.startswith("_")]
    assert json.dumps(dict(read.denoiser), default=str) == before
    assert control_config(read, ControlNet(), 21)["extra_conditioning_channels"] == 21


def test_dual_attention_stays_where_the_copied_blocks_have_it(base: Path, tmp_path: Path) -> None:
    folder = copy_with(base, tmp_path, "transformer", dual_attention_layers=[0, 1], num_layers=4)
    assert control_config(read_base(str(folder)), ControlNet(layers=1), 0)["dual_attention_layers"] == (0,)


def test_a_new_controlnet_is_a_copy_that_adds_nothing(base: Path) -> None:
    read = read_base(str(base))
    denoiser = load_denoiser(read, torch.float32)
    net = new_controlnet(control_config(read, ControlNet(), 0), denoiser, ControlNet())
    own, theirs = net.state_dict(), denoiser.state_dict()
    copied = [name for name in own if name in theirs and not name.startswith(("norm_out", "proj_out"))]
    assert len(copied) == len(own) - 4  # all but the projections in and out of the condition
    assert all(torch.equal(own[name], theirs[name]) for name in copied)
    assert all(not part.any() for part in residuals(net))
    assert [name for name, p in net.named_parameters() if not p.requires_grad] == []


def test_one_channel_a_class_changes_the_projection_of_the_condition_alone(base: Path) -> None:
    read = read_base(str(base))
    net = new_controlnet(control_config(read, ControlNet(), 20), load_denoiser(read, torch.float32), ControlNet())
    assert net.pos_embed_input.proj.weight.shape[1] == 24
    assert net.pos_embed.proj.weight.shape[1] == 4
    assert all(not part.any() for part in residuals(net, 24))


def test_a_saved_lora_is_what_stock_pipelines_load_and_merging_it_changes_nothing(base: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusion3Pipeline

    read = read_base(str(base))
    torch.manual_seed(0)
    trained = load_denoiser(read, torch.float32)
    plain = predicted(trained)
    add_lora(trained, Lora(rank=4, alpha=8))
    asks = [name for name, p in trained.named_parameters() if p.requires_grad]
    assert asks
    assert all(".attn." in name and "lora_" in name for name in asks)
    torch.testing.assert_close(predicted(trained), plain)  # B is zero at first
    with torch.no_grad():
        for name, weight in trained.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    changed = predicted(trained)
    assert (changed - plain).abs().max() > 0.01
    save_lora(trained, tmp_path / "lora")
    assert [path.name for path in (tmp_path / "lora").iterdir()] == ["pytorch_lora_weights.safetensors"]

    merged = load_denoiser(read, torch.float32)
    merge_lora(merged, tmp_path / "lora")
    torch.testing.assert_close(predicted(merged), changed, atol=1e-5, rtol=1e-4)
    assert merged.state_dict().keys() == load_denoiser(read, torch.float32).state_dict().keys()
    assert not any(p.requires_grad for p in merged.parameters())

    pipeline = StableDiffusion3Pipeline.from_pretrained(
        base, text_encoder_3=None, tokenizer_3=None, dtype=torch.float32
    )
    pipeline.load_lora_weights(tmp_path / "lora")
    torch.testing.assert_close(predicted(pipeline.transformer), changed, atol=1e-5, rtol=1e-4)


def test_low_rank_training_leaves_a_network_of_the_same_names(base: Path) -> None:
    read = read_base(str(base))
    denoiser = load_denoiser(read, torch.float32)
    config = control_config(read, ControlNet(), 0)
    settings = ControlNet(lora_rank=2)
    net = new_controlnet(config, denoiser, settings)
    asks = {name.split(".")[0] for name, p in net.named_parameters() if p.requires_grad and "lora_" not in name}
    assert asks == {"controlnet_blocks", "pos_embed_input"}
    with torch.no_grad():
        for weight in (p for p in net.parameters() if p.requires_grad):
            weight.normal_(std=0.05)
    expected = residuals(net)
    whole_controlnet(net, settings)
    assert net.state_dict().keys() == new_controlnet(config, denoiser, ControlNet()).state_dict().keys()
    for made, part in zip(residuals(net), expected, strict=True):
        torch.testing.assert_close(made, part, atol=1e-5, rtol=1e-4)


def copy_with(base: Path, tmp_path: Path, part: str, **changes: Any) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(base, folder)
    path = folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    return folder


def test_what_is_not_of_the_sd3_kind_is_refused(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(base, folder)
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxPipeline"}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"is a FluxPipeline with a SD3Transformer2DModel; .* SD3 kind"):
        read_base(str(folder))
    with pytest.raises(ModelError):
        read_base(str(base / "vae"))
    with pytest.raises(ModelError, match="is a StableDiffusion3Pipeline with a FluxTransformer2DModel"):
        read_base(str(copy_with(base, tmp_path, "transformer", _class_name="FluxTransformer2DModel")))


def test_a_vae_without_a_scale_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="its VAE has no shift_factor"):
        read_base(str(copy_with(base, tmp_path, "vae", shift_factor=None)))


def test_the_schedulers_shift_is_read(base: Path, tmp_path: Path) -> None:
    assert read_base(str(base)).shift == 1.0
    assert read_base(str(copy_with(base, tmp_path, "scheduler", shift=3.0))).shift == 3.0


@pytest.mark.parametrize(
    ("size_px", "told"),
    [((60, 96), "multiples of 8 px"), ((64, 100), "multiples of 8 px"), ((64, 200), "for 192 px a side")],
)
def test_sizes_that_the_base_cannot_make_are_refused(base: Path, size_px: tuple[int, int], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        require_size(read_base(str(base)), size_px)
    require_size(read_base(str(base)), (64, 192))


def test_the_last_block_cannot_be_copied(base: Path) -> None:
    with pytest.raises(RecipeError, match=r"adapt\.controlnet\.layers = 2: .* has 2 blocks.*give 1 to 1"):
        control_config(read_base(str(base)), ControlNet(layers=2), 0)
