"""The folder that a training saves: small files, no trace of the machine, a start for another training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from doubles.mini_family import random_flow, random_vae, write_family, write_trained_size
from PIL import Image

from synthgen.training.pipelines import load_pipeline, load_start, save

CAPTION = "a red car on the road at night"


def test_the_saved_family_is_small_files_without_a_trace_of_the_machine(tmp_path: Path) -> None:
    random_vae(8, 16, 16).save_pretrained(tmp_path / "my-vae")
    coder = AutoencoderKL.from_pretrained(tmp_path / "my-vae")
    save(random_flow(), coder, tmp_path / "family")
    write_trained_size(tmp_path / "trained")
    for path in [*(tmp_path / "family").rglob("*"), *(tmp_path / "trained").rglob("*")]:
        if path.is_file():
            assert path.stat().st_size <= 16 * 2**20, path
            assert path.suffix == ".safetensors" or str(tmp_path) not in path.read_text(encoding="utf-8"), path
    assert json.loads((tmp_path / "family" / "vae" / "config.json").read_text())["_class_name"] == "AutoencoderKL"


def test_the_saved_family_loads_in_float32_and_repeats_itself(tmp_path: Path) -> None:
    write_family(tmp_path, control_layers=1)
    assert {tensor.dtype for tensor in load_pipeline(tmp_path).transformer.state_dict().values()} == {torch.float32}

    def image(control: bool) -> np.ndarray:
        torch.manual_seed(0)
        extra = {"control_image": Image.new("RGB", (32, 32), (90, 10, 60))} if control else {}
        made = load_pipeline(tmp_path, control)(
            CAPTION, height=32, width=32, num_inference_steps=2, max_sequence_length=0, output_type="np",
            generator=torch.Generator().manual_seed(4), **extra,
        )  # fmt: skip
        return made.images[0]

    for control in (False, True):
        first = image(control)
        assert first.shape == (32, 32, 3) and np.isfinite(first).all() and first.std() > 0.01
        np.testing.assert_array_equal(image(control), first)


def test_the_weights_of_a_saved_family_are_a_start(tmp_path: Path) -> None:
    saved = random_flow()
    save(saved, random_vae(8, 16, 16), tmp_path)
    flow = random_flow()
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(1.0)
    load_start(flow, tmp_path)
    for name, weight in flow.named_parameters():
        torch.testing.assert_close(weight, saved.get_parameter(name).float(), rtol=0, atol=0)
