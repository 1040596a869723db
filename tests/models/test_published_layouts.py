"""Renderer and text encoder `sd3` on folders as they are published: what is whole loads, the rest is told in a line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from doubles.published import as_variant, weights_in, without_tensor, write_published, write_single_file
from safetensors.torch import load_file, save_file

from synthgen.errors import ModelError
from synthgen.models import RenderJob
from synthgen.models.diffusion_models import LICENCES, diffusion_model, diffusion_models
from synthgen.models.renderers import sd3
from synthgen.models.sd3_options import sampling_of
from synthgen.models.step_cache import StepCacheOptions
from synthgen.models.text_encoders import sd3 as text_encoder
from synthgen.settings import Execution

CPU = Execution(device="cpu")
PROMPT = "a red car on sand"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published(tmp_path_factory.mktemp("published") / "stable-diffusion", control_layers=1)


@pytest.fixture
def copied(published: Path, tmp_path: Path) -> Callable[..., Path]:
    return lambda name="copy": Path(shutil.copytree(published, tmp_path / name))


def encoder(folder: Path, **options: Any) -> text_encoder.Sd3TextEncoder:
    return text_encoder.build(text_encoder.Options(model=str(folder), max_sequence_length=8, **options), CPU)


def job(**changes: Any) -> RenderJob:
    plain = {
        "key": "k", "prompt": PROMPT, "negative": "", "seed": 7, "height_px": 32, "width_px": 32, "embedding": None,
        "negative_embedding": None, "photograph": None, "layout": None,
    }  # fmt: skip
    return RenderJob(**{**plain, **changes})


def rendered(folder: Path, **options: Any) -> Any:
    settings = {"model": str(folder), "steps": 2, "guidance": 3.0, "max_sequence_length": 8, "group": 1, **options}
    (made,) = sd3.build(sd3.Options(**settings), CPU).render([job()])
    assert made.image is not None
    return made


def one_line(call: Callable[[], Any]) -> str:
    with pytest.raises(ModelError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# variants


@pytest.mark.parametrize("shards", [False, True])
def test_weights_that_are_there_as_fp16_alone_are_taken(
    published: Path, copied: Callable[..., Path], shards: bool
) -> None:
    folder = copied()
    for part in ("text_encoder", "text_encoder_3", "transformer"):
        as_variant(folder / part, "fp16", shards)
    plain, variant = encoder(published).encode([PROMPT])[0], encoder(folder).encode([PROMPT])[0]
    np.testing.assert_array_equal(plain.tokens, variant.tokens)
    np.testing.assert_array_equal(plain.pooled, variant.pooled)
    np.testing.assert_array_equal(rendered(published).image, rendered(folder).image)


def test_the_variant_that_is_asked_for_is_taken_or_missed(published: Path, copied: Callable[..., Path]) -> None:
    folder = copied()
    for name in ("text_encoder", "text_encoder_2", "text_encoder_3"):
        plain = weights_in(folder / name)
        halves = {key: value / 2 for key, value in load_file(plain).items()}
        save_file(halves, plain.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
    assert not np.array_equal(
        encoder(folder, variant="fp16").encode([PROMPT])[0].pooled, encoder(folder).encode([PROMPT])[0].pooled
    )
    assert "cannot be loaded" in one_line(lambda: encoder(published, variant="bf16"))


# what is not whole


@pytest.mark.parametrize(
    ("part", "ending"),
    [
        ("text_encoder", "text_projection.weight"),
        ("text_encoder_2", "fc1.weight"),
        ("text_encoder_3", "layer_norm.weight"),
    ],
)
def test_a_text_encoder_that_lacks_a_tensor_is_refused(copied: Callable[..., Path], part: str, ending: str) -> None:
    folder = copied()
    name = without_tensor(folder / part, ending)
    said = one_line(lambda: encoder(folder))
    assert f"the weights of {part} lack 1 of its tensors" in said
    assert name.split(".")[-2] in said


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_a_denoiser_or_vae_that_lacks_a_tensor_is_refused(copied: Callable[..., Path], part: str) -> None:
    folder = copied()
    without_tensor(folder / part, ".weight")
    assert f"the weights of {part} lack 1 of its tensors" in one_line(lambda: rendered(folder))


def test_a_controlnet_that_lacks_a_tensor_is_refused(copied: Callable[..., Path]) -> None:
    folder = copied()
    without_tensor(folder / "controlnet", ".weight")
    net = str(folder / "controlnet")
    said = one_line(lambda: rendered(folder, controlnet=net, control="edges"))
    assert net in said and "lack 1 of its tensors" in said


def test_a_controlnet_may_lie_in_any_folder_of_a_repository(published: Path, tmp_path: Path) -> None:
    nets = tmp_path / "nets"
    shutil.copytree(published / "controlnet", nets / "sd35" / "edges")
    options = sd3.Options(
        model=str(published), controlnet=str(nets), controlnet_subfolder="sd35/edges", control="edges", steps=1
    )
    loaded = sd3.build(options, CPU)._pipeline.controlnet.state_dict()
    expected = load_file(weights_in(published / "controlnet"))
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name].float()) for name in expected)


def test_a_t5_that_is_named_and_not_there_says_how_to_do_without(copied: Callable[..., Path]) -> None:
    folder = copied()
    shutil.rmtree(folder / "text_encoder_3")
    assert one_line(lambda: encoder(folder)).endswith("or set t5: false for embedder and renderer")
    assert encoder(folder, t5=False).encode([PROMPT])[0].tokens.any()


def test_a_pipeline_of_another_family_is_told_as_what_it_is(copied: Callable[..., Path]) -> None:
    folder = copied()
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxPipeline"}))
    for build in (lambda: encoder(folder), lambda: rendered(folder)):
        said = one_line(build)
        assert "its model_index.json says 'FluxPipeline'" in said and "render.renderer.name=diffusers" in said


# single files


def test_a_denoiser_from_one_file_of_its_authors_layout(published: Path, tmp_path: Path) -> None:
    torch.manual_seed(11)
    config = SD3Transformer2DModel.load_config(published, subfolder="transformer")
    other = SD3Transformer2DModel.from_config(config)
    other.save_pretrained(tmp_path / "other")
    file = write_single_file(other, tmp_path / "sd3.5_tiny.safetensors")
    by_file = rendered(published, denoiser_file=str(file)).image
    folder = Path(shutil.copytree(published, tmp_path / "whole"))
    shutil.rmtree(folder / "transformer")
    shutil.copytree(tmp_path / "other", folder / "transformer")
    np.testing.assert_array_equal(by_file, rendered(folder).image)
    assert (by_file != rendered(published).image).any()


def test_files_that_are_no_such_denoiser_are_told_as_what_they_are(published: Path, tmp_path: Path) -> None:
    scaled, foreign, gguf = (tmp_path / name for name in ("fp8_scaled.safetensors", "other.safetensors", "a.gguf"))
    save_file({"joint_blocks.0.x_block.attn.proj.scale_weight": torch.ones(1)}, scaled)
    save_file({"weight": torch.ones(2)}, foreign)
    gguf.write_bytes(b"GGUF")
    for path, says in (
        (scaled, "weights of 8 bits with scales of their own"),
        (foreign, "does not hold the denoiser of"),
        (gguf, "only .safetensors files are read"),
        (tmp_path / "no.safetensors", "no such file"),
    ):
        said = one_line(lambda path=path: rendered(published, denoiser_file=str(path)))
        assert says in said and str(path) in said
    said = one_line(lambda: rendered(scaled))
    assert "is a single checkpoint file" in said and "render.renderer.denoiser_file" in said


def test_another_denoiser_file_is_another_run(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"weight": torch.ones(2)}, path)
    options = sd3.Options(model="mini/objects", denoiser_file=str(path))
    before = sd3.fingerprint(options)
    save_file({"weight": torch.zeros(3)}, path)
    assert sd3.fingerprint(options) != before


# settings of each model


@pytest.mark.parametrize(
    ("model", "steps", "guidance", "layers", "passes"),
    [
        ("stabilityai/stable-diffusion-3.5-large", 28, 4.5, (), 56),
        ("stabilityai/stable-diffusion-3.5-large-turbo", 4, 1.0, (), 4),
        ("hf-hub:StabilityAI/stable-diffusion-3.5-medium", 40, 4.0, (7, 8, 9), 87),
        ("mini/objects", 28, 4.5, (), 56),
    ],
)
def test_what_a_recipe_leaves_open_is_as_the_makers_advise(
    model: str, steps: int, guidance: float, layers: tuple[int, ...], passes: int
) -> None:
    sampling = sampling_of(sd3.Options(model=model))
    assert (sampling.steps, sampling.guidance, sampling.skip_layers.layers) == (steps, guidance, layers)
    assert sampling.passes == passes
    own = sampling_of(sd3.Options(model=model, steps=9, guidance=2.0, skip_layers={"layers": [1]}))
    assert (own.steps, own.guidance, own.skip_layers.layers) == (9, 2.0, (1,))


def test_skip_layer_guidance_is_left_where_it_cannot_be_had() -> None:
    medium = "stabilityai/stable-diffusion-3.5-medium"
    for more in ({"controlnet": "owner/net"}, {"step_cache": StepCacheOptions(threshold=0.1)}):
        sampling = sampling_of(sd3.Options(model=medium, **more))
        assert (sampling.guidance, sampling.skip_layers.layers) == (4.5, ())
        with pytest.raises(ModelError, match="skip-layer guidance is not to be had with a"):
            sampling_of(sd3.Options(model=medium, skip_layers={"layers": [7]}, **more))


def test_a_folder_of_turbos_name_takes_four_steps_without_guidance(copied: Callable[..., Path]) -> None:
    folder = copied("stable-diffusion-3.5-large-turbo")
    made = rendered(folder, steps=None, guidance=None)
    assert (made.steps, made.guidance, made.denoiser_runs) == (4, 1.0, 4)
    again = rendered(folder, steps=4, guidance=1.0)
    np.testing.assert_array_equal(made.image, again.image)


def test_skip_layer_guidance_is_that_of_the_stock_pipeline(published: Path) -> None:
    skip = {"layers": [1], "scale": 2.5, "start": 0.01, "stop": 0.6}
    made = rendered(published, steps=5, skip_layers=skip)
    assert made.denoiser_runs == 2 * 5 + 2  # steps 1 and 2
    stock = StableDiffusion3Pipeline.from_pretrained(published, dtype=torch.float32)
    stock.set_progress_bar_config(disable=True)
    image = stock(
        PROMPT, negative_prompt="", height=32, width=32, num_inference_steps=5, guidance_scale=3.0, output_type="np",
        generator=torch.Generator("cpu").manual_seed(7), max_sequence_length=8, skip_guidance_layers=[1],
        skip_layer_guidance_scale=2.5, skip_layer_guidance_start=0.01, skip_layer_guidance_stop=0.6,
    ).images[0]  # fmt: skip
    assert np.abs(made.image.astype(int) - np.round(image * 255).astype(int)).max() <= 1
    assert (made.image != rendered(published, steps=5).image).any()


def test_a_distilled_model_under_guidance_is_noted() -> None:
    turbo = "stabilityai/stable-diffusion-3.5-large-turbo"
    assert sd3.notes(sd3.Options(model=turbo)) == []
    for settings in ({"guidance": 4.5}, {"steps": 28}):
        (said,) = sd3.notes(sd3.Options(model=turbo, **settings))
        assert "is distilled" in said
    assert sd3.notes(sd3.Options(guidance=4.5, steps=28)) == []


def test_every_entry_of_the_list_is_a_pipeline_that_diffusers_has() -> None:
    import diffusers

    names = [name for entry in diffusion_models() for name in entry.ids]
    assert len(names) == len(set(names)) >= 9
    for entry in diffusion_models():
        assert hasattr(diffusers, entry.pipeline), entry.pipeline
        assert entry.licence in LICENCES and entry.source
        assert not entry.distilled or (entry.guidance <= 1 and entry.steps <= 10)
    assert diffusion_model("nobody/nothing") is None
