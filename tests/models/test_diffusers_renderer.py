"""Renderer `diffusers` on folders of several families: the images of the stock pipelines, and what is refused."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from doubles.published import as_variant, without_tensor, write_published
from doubles.tiny_pipelines import write_sdxl, write_z_image

from synthgen.backends import cost, load, statement
from synthgen.errors import ModelError
from synthgen.models import RenderJob
from synthgen.models.diffusion_models import diffusion_models
from synthgen.models.renderers import diffusers as renderer
from synthgen.settings import Execution

CPU = Execution(device="cpu")
# diffusers 0.42 hands a tensor to numpy in a way that numpy 2 warns of (EulerDiscreteScheduler, which SDXL has)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
WRITERS: dict[str, Callable[[Path], Path]] = {"z_image": write_z_image, "sdxl": write_sdxl, "sd3": write_published}
PASSES = {"z_image": 1, "sdxl": 2, "sd3": 2}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp(name) / name) for name, write in WRITERS.items()}


def model_of(folder: Path, **options: Any) -> renderer.DiffusersRenderer:
    return renderer.build(renderer.Options(**{"model": str(folder), "steps": 2, **options}), CPU)


def job(prompt: str = "a red car", seed: int = 7, **changes: Any) -> RenderJob:
    plain = {
        "key": "k", "negative": "", "height_px": 32, "width_px": 48, "embedding": None, "negative_embedding": None,
        "photograph": None, "layout": None,
    }  # fmt: skip
    return RenderJob(**{**plain, "prompt": prompt, "seed": seed, **changes})


@pytest.mark.parametrize("name", list(WRITERS))
def test_images_are_those_of_the_stock_pipeline_alone_and_in_company(folders: dict[str, Path], name: str) -> None:
    guidance = 0.0 if name == "z_image" else 3.0
    model = model_of(folders[name], guidance=guidance)
    first, second = model.render([job(), job("a horse", 8)])
    stock = diffusers.AutoPipelineForText2Image.from_pretrained(folders[name], dtype=torch.float32)
    stock.set_progress_bar_config(disable=True)
    expected = stock(
        "a horse", height=32, width=48, num_inference_steps=2, guidance_scale=guidance, output_type="np",
        generator=torch.Generator("cpu").manual_seed(8),
    ).images[0]  # fmt: skip
    assert second.image is not None and second.image.shape == (32, 48, 3) and second.image.dtype == np.uint8
    assert np.abs(second.image.astype(int) - np.round(expected * 255).astype(int)).max() <= 1
    assert (second.steps, second.guidance, second.denoiser_runs) == (2, guidance, 2 * PASSES[name])
    (alone,) = model.render([job()])
    np.testing.assert_array_equal(alone.image, first.image)
    other = model.render([job(seed=9)])[0].image
    assert other is not None and (other != first.image).any()


def test_a_negative_prompt_changes_the_image_where_the_pipeline_takes_one(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(folders["sdxl"], guidance=5.0)
    plain, negative = (model.render([job(negative=text)])[0].image for text in ("", "blurred"))
    assert plain is not None and negative is not None and (plain != negative).any()
    monkeypatch.delitem(model.__dict__, "_accepted")
    model._accepted = {}  # type: ignore[assignment]
    with pytest.raises(ModelError, match=r"render\.negative: .* takes no negative prompt"):
        model.render([job(negative="blurred")])


def test_weights_are_whole_or_refused_and_variants_are_found(folders: dict[str, Path], tmp_path: Path) -> None:
    expected = model_of(folders["z_image"]).render([job()])[0].image
    folder = Path(shutil.copytree(folders["z_image"], tmp_path / "fp16"))
    as_variant(folder / "text_encoder", "fp16")
    np.testing.assert_array_equal(model_of(folder).render([job()])[0].image, expected)
    without_tensor(folder / "transformer", ".weight")
    with pytest.raises(ModelError, match="the weights of transformer lack 1 of its tensors"):
        model_of(folder)
    torn = Path(shutil.copytree(folders["z_image"], tmp_path / "torn"))
    without_tensor(torn / "text_encoder", "norm.weight")
    with pytest.raises(ModelError, match="the weights of text_encoder lack 1 of its tensors"):
        model_of(torn)


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({"layout": np.zeros((32, 48), np.uint8)}, {}, r"would ignore the label maps.*render\.renderer\.name=sd3"),
        ({"height_px": 33}, {}, "33"),
        ({}, {"guidance_argument": "true_cfg_scale"}, "ZImagePipeline does not take it; it takes guidance_scale"),
    ],
)
def test_what_it_cannot_do_is_one_line(
    folders: dict[str, Path], changes: dict[str, Any], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        model_of(folders["z_image"], **options).render([job(**changes)])
    assert "\n" not in str(caught.value)


def test_no_pipeline_and_a_file_are_one_line(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"x")
    for place in (folders["sdxl"] / "vae", tmp_path / "a.safetensors"):
        with pytest.raises(ModelError) as caught:
            model_of(place)
        assert "\n" not in str(caught.value) and str(place) in str(caught.value)


def test_an_image_that_is_not_finite_has_a_reason(folders: dict[str, Path]) -> None:
    model = model_of(folders["z_image"])
    with torch.no_grad():
        model._pipeline.vae.decoder.conv_out.bias.fill_(torch.nan)
    (made,) = model.render([job()])
    assert made.image is None and made.reason == "not_finite"


def test_the_list_names_arguments_that_the_pipelines_have() -> None:
    """Every family of the list, those whose weights nobody here can load as well."""
    for entry in diffusion_models():
        accepted = inspect.signature(getattr(diffusers, entry.pipeline).__call__).parameters
        assert entry.guidance_argument in accepted, entry.pipeline
        assert {"prompt", "height", "width", "num_inference_steps", "generator", "output_type"} <= set(accepted)


def test_what_a_recipe_leaves_open_is_as_the_makers_advise() -> None:
    for model, expected in (
        ("Tongyi-MAI/Z-Image-Turbo", (8, 0.0, "guidance_scale")),
        ("Qwen/Qwen-Image", (50, 4.0, "true_cfg_scale")),
        ("black-forest-labs/FLUX.2-klein-4B", (4, 1.0, "guidance_scale")),
        ("nobody/nothing", (28, 4.5, "guidance_scale")),
    ):
        assert renderer.sampling_of(renderer.Options(model=model)) == expected
    config = {"name": "diffusers"}
    licence = statement("renderer", config, "licences", {})["Tongyi-MAI/Z-Image-Turbo"]
    assert licence.name == "apache-2.0"
    assert renderer.notes(renderer.Options()) == []
    assert "is distilled" in renderer.notes(renderer.Options(guidance=1.0))[0], "Z-Image guides at anything above 0"


def test_what_it_takes_is_known_of_listed_models() -> None:
    size, gpu = (1024, 1024), Execution(dtype="bfloat16")
    found = {
        entry.ids[0]: cost("renderer", {"name": "diffusers", "model": entry.ids[0]}, size, gpu)
        for entry in diffusion_models()
    }
    assert all(each is not None and each.operations and each.memory_gb > 5 for each in found.values())
    z_image, large = found["Tongyi-MAI/Z-Image-Turbo"], found["stabilityai/stable-diffusion-3.5-large"]
    assert z_image is not None and large is not None and z_image.operations and large.operations
    assert z_image.operations < large.operations / 5, "8 passes of 6.15e9 weights against 56 of 8.06e9"
    offloaded = cost("renderer", {"name": "diffusers"}, size, Execution(dtype="bfloat16", offload="model"))
    assert offloaded is not None and offloaded.memory_gb < 16
    assert cost("renderer", {"name": "diffusers", "model": "nobody/nothing"}, size, gpu) is None


def test_it_is_found_by_name(folders: dict[str, Path]) -> None:
    built = load("renderer", {"name": "diffusers", "model": str(folders["sdxl"]), "steps": 1}, CPU)
    assert built.id == f"diffusers:{folders['sdxl']}" and built.revision.startswith("local-")
