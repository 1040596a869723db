"""Rendering with the look that `synthgen adapt` has learnt, and without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from doubles.mini_family import write_family

from synthgen.adapt.networks import add_lora, load_denoiser, read_base, save_lora
from synthgen.adapt_settings import Lora
from synthgen.backends import load, weights
from synthgen.errors import ModelError
from synthgen.models import RenderJob
from synthgen.settings import Execution


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_family(tmp_path_factory.mktemp("base") / "family")


@pytest.fixture(scope="module")
def adapted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `synthgen adapt` leaves it, with a look that shows."""
    out = tmp_path_factory.mktemp("adapted")
    denoiser = load_denoiser(read_base(str(base)), torch.float32)
    torch.manual_seed(0)
    add_lora(denoiser, Lora(rank=2, alpha=2))
    with torch.no_grad():
        for name, weight in denoiser.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.2)
    save_lora(denoiser, out / "lora")
    return out


def render(base: Path, lora: str) -> np.ndarray:
    config = {"name": "sd3", "model": str(base), "steps": 3, "guidance": 1.5, "lora": lora}
    renderer = load("renderer", config, Execution(device="cpu"))
    image = renderer.render([RenderJob("k", "a car", "", 5, 64, 64, None, None, None, None)])[0].image
    assert image is not None
    return image


def test_the_look_changes_the_picture_wherever_it_is_named(base: Path, adapted: Path) -> None:
    plain = render(base, "")
    changed = render(base, str(adapted))
    assert not np.array_equal(plain, changed)
    for place in (adapted / "lora", adapted / "lora" / "pytorch_lora_weights.safetensors"):
        assert np.array_equal(render(base, str(place)), changed)


def test_its_weights_are_among_those_that_a_run_pins(base: Path, adapted: Path) -> None:
    config = {"name": "sd3", "model": str(base), "lora": str(adapted)}
    assert (str(adapted), "") in weights("renderer", config)


def test_what_is_no_lora_is_one_line(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        render(base, str(tmp_path))
