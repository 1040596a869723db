"""The keys of `execution` that change how the denoiser is held and computed."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles.mini_family import write_family

from synthgen.errors import ModelError, RecipeError
from synthgen.models import RenderJob
from synthgen.models.acceleration import ATTENTION, CPU_ATTENTION, QUANTISED
from synthgen.models.renderers import sd3
from synthgen.recipe import read_recipe
from synthgen.render import stage
from synthgen.settings import Execution


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_family(tmp_path_factory.mktemp("family"), control_layers=1)


@pytest.fixture(scope="module")
def plain(family: Path) -> np.ndarray:
    return rendered(renderer(family))


def renderer(family: Path, cache: float = 0.0, **keys: Any) -> sd3.Sd3Renderer:
    options = {
        "model": str(family),
        "controlnet": str(family / "controlnet"),
        "control_palette": "cityscapes",
        "steps": 3,
        "group": 1,
        "step_cache": {"threshold": cache},
    }
    return sd3.build(sd3.Options(**options), Execution(device="cpu", **keys))


def rendered(model: sd3.Sd3Renderer) -> np.ndarray:
    [result] = model.render(
        [RenderJob("k", "a red car", "", 7, 32, 32, None, None, None, np.full((32, 32), 2, np.uint8))]
    )
    assert result.image is not None
    return result.image.astype(int)


def num_bytes(model: sd3.Sd3Renderer, part: str) -> int:
    return sum(weight.numel() * weight.element_size() for weight in getattr(model._pipeline, part).parameters())


def test_fp8_stores_a_byte_a_weight_and_nearly_keeps_the_image(family: Path, plain: np.ndarray) -> None:
    whole, small = renderer(family), renderer(family, quantise="fp8")
    for part in ("transformer", "controlnet"):
        assert num_bytes(small, part) < 0.62 * num_bytes(whole, part), (
            "norms stay as they are: in a model this narrow they are a third"
        )
        kinds = {weight.dtype for weight in getattr(small._pipeline, part).transformer_blocks.parameters()}
        assert kinds == {torch.float8_e4m3fn, torch.float32}
    assert num_bytes(small, "vae") == num_bytes(whole, "vae")
    change = np.abs(rendered(small) - plain)
    assert 0 < change.mean() < 6
    assert small.id == whole.id + "+fp8"


@pytest.mark.parametrize("name", CPU_ATTENTION)
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_another_attention_kernel_gives_the_same_image(
    family: Path, plain: np.ndarray, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers.models import attention_dispatch

    asked = []
    real = attention_dispatch.dispatch_attention_fn
    monkeypatch.setattr(
        attention_dispatch,
        "dispatch_attention_fn",
        lambda *args, **how: asked.append(how["backend"].value) or real(*args, **how),
    )
    assert np.abs(rendered(renderer(family, attention=name)) - plain).max() <= 1
    assert set(asked) == {ATTENTION[name]}, "diffusers' own processor for SD3 would never have asked"


def test_attention_that_is_not_there_gives_one_line(family: Path) -> None:
    for name in sorted({*ATTENTION} - {*CPU_ATTENTION}):
        with pytest.raises(
            ModelError, match=rf"^execution\.attention={name} needs a CUDA GPU, this is cpu; use auto, flex or math$"
        ):
            rendered(renderer(family, attention=name))


def test_a_kernel_whose_package_is_missing_gives_one_line(family: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synthgen.models import acceleration

    monkeypatch.setattr(acceleration, "CPU_ATTENTION", ("sage", "flash"))  # as if this were a GPU
    for name in ("sage", "flash"):
        with pytest.raises(ModelError, match=rf"^execution\.attention={name}: .*install.*; or use auto$") as caught:
            rendered(renderer(family, attention=name))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", QUANTISED)
def test_quantisation_whose_package_is_missing_gives_one_line_before_anything_is_loaded(
    family: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    with pytest.raises(
        ModelError,
        match=rf"^execution\.quantise={kind} needs the package '{QUANTISED[kind]}', which is not installed .*; "
        r"or use fp8$",
    ):
        renderer(family, quantise=kind)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: object())
    if QUANTISED[kind] == "bitsandbytes":
        with pytest.raises(
            ModelError, match=rf"^execution\.quantise={kind} needs a CUDA GPU, this is cpu; use fp8 or none$"
        ):
            renderer(family, quantise=kind)


def test_channels_last_is_the_decoders_and_changes_no_more_than_rounding(family: Path, plain: np.ndarray) -> None:
    model = renderer(family, channels_last=True)
    assert model._pipeline.vae.decoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert np.abs(rendered(model) - plain).max() <= 1


def test_offload_has_nothing_to_do_without_a_gpu(family: Path, plain: np.ndarray) -> None:
    for way in ("model", "sequential"):
        np.testing.assert_array_equal(rendered(renderer(family, offload=way)), plain)


def test_compile_is_asked_for_every_block_once(
    family: Path, plain: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: compiled.append(self))
    model = renderer(family, compile=True)
    np.testing.assert_array_equal(rendered(model), plain)
    pipeline = model._pipeline
    expected = [*pipeline.transformer.transformer_blocks, *pipeline.controlnet.transformer_blocks]
    assert all(one is other for one, other in itertools.zip_longest(compiled, expected))


@pytest.mark.slow
def test_compiled_blocks_give_the_same_image_with_and_without_a_step_cache(family: Path, plain: np.ndarray) -> None:
    assert np.abs(rendered(renderer(family, compile=True)) - plain).max() <= 2
    assert np.abs(rendered(renderer(family, compile=True, cache=1e-9)) - plain).max() <= 2


def test_a_step_cache_goes_with_the_other_keys(family: Path, plain: np.ndarray) -> None:
    model = renderer(family, cache=1e-9, attention="math", channels_last=True, offload="model")
    assert np.abs(rendered(model) - plain).max() <= 1
    eighth = renderer(family, quantise="fp8")
    assert np.abs(rendered(renderer(family, cache=1e-9, quantise="fp8")) - rendered(eighth)).max() <= 1


# the recipe


def test_offload_was_once_yes_or_no() -> None:
    assert (Execution(offload=True).offload, Execution(offload=False).offload, Execution().offload) == (
        "model",
        "none",
        "none",
    )  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"execution\.offload"):
        read_recipe("syn4seg-mini", ["execution.offload=some"])


def test_quantised_weights_are_other_weights_and_the_other_keys_are_not() -> None:
    def settings(**keys: Any) -> dict[str, Any]:
        return stage.settings(read_recipe("syn4seg-mini", [f"execution.{key}={value}" for key, value in keys.items()]))

    assert settings(attention="math", compile="true", channels_last="true", offload="sequential") == settings()
    assert settings(quantise="fp8") == settings() | {"quantise": "fp8"}


def test_a_step_cache_is_fingerprinted() -> None:
    cached = read_recipe("syn4seg-mini", ["render.renderer.step_cache={threshold: 0.1}"])
    assert stage.settings(cached) != stage.settings(read_recipe("syn4seg-mini"))
