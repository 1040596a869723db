"""The backend `sd3`, text encoder and renderer, on families with random weights."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from doubles.mini_family import write_family, write_trained_size
from safetensors.torch import load_file, save_file

from synthgen.errors import ModelError
from synthgen.models import Rendered, RenderJob
from synthgen.models.renderers import sd3
from synthgen.models.text_encoders import sd3 as text_encoder
from synthgen.records import seed_of
from synthgen.settings import Execution
from synthgen.training.flow import tokenize
from synthgen.training.pipelines import load_pipeline

CPU = Execution(device="cpu")
PROMPTS = ("a red car on sand", "a horse on grass", "a boat on the sea", "a cat in a room", "a bus in snow")
PALETTE = "cityscapes"


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_family(tmp_path_factory.mktemp("family"), control_layers=1)


def renderer(family: Path, **options: Any) -> sd3.Sd3Renderer:
    return sd3.build(sd3.Options(**{"model": str(family), "steps": 2, "guidance": 3.0, **options}), CPU)


def encoder(family: Path, **options: Any) -> text_encoder.Sd3TextEncoder:
    return text_encoder.build(text_encoder.Options(model=str(family), **options), CPU)


def jobs_of(prompts: Sequence[str] = PROMPTS, **changes: Any) -> list[RenderJob]:
    plain = {
        "negative": "",
        "height_px": 32,
        "width_px": 32,
        "embedding": None,
        "negative_embedding": None,
        "photograph": None,
        "layout": None,
    }
    return [
        RenderJob(**{**plain, "key": f"k{number}", "prompt": prompt, "seed": seed_of(f"k{number}"), **changes})
        for number, prompt in enumerate(prompts)
    ]


def images_of(made: Sequence[Rendered]) -> list[np.ndarray]:
    assert all(result.image is not None for result in made)
    return [result.image for result in made if result.image is not None]


def layout(top: int, bottom: int) -> np.ndarray:
    mask = np.full((32, 32), top, np.uint8)
    mask[16:] = bottom
    return mask


# text


def test_the_encoder_gives_what_the_denoiser_was_trained_on(family: Path) -> None:
    pipeline = load_pipeline(family)
    ids = tokenize(pipeline.tokenizer, [PROMPTS[0]])
    with torch.inference_mode():
        first, second = (
            part(ids, output_hidden_states=True) for part in (pipeline.text_encoder, pipeline.text_encoder_2)
        )
    embedding = encoder(family).encode(PROMPTS)[0]
    assert embedding.tokens.dtype == embedding.pooled.dtype == np.float32
    np.testing.assert_allclose(
        embedding.tokens, torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)[0], atol=1e-5
    )
    np.testing.assert_allclose(embedding.pooled, torch.cat([first.text_embeds, second.text_embeds], -1)[0], atol=1e-5)


def test_the_number_of_t5_tokens_is_the_folders_unless_asked_otherwise(family: Path, tmp_path: Path) -> None:
    assert json.loads((family / "synthgen.json").read_text()) == {"max_sequence_length": 0}
    assert encoder(family).encode(["a cat"])[0].tokens.shape[0] == 16
    longer = encoder(family, max_sequence_length=5).encode(["a cat"])[0].tokens
    assert longer.shape[0] == 16 + 5
    assert not longer[16:].any()  # zeros stand for the missing T5
    silent = shutil.copytree(family, tmp_path / "silent")
    (silent / "synthgen.json").unlink()
    assert encoder(silent).encode(["a cat"])[0].tokens.shape[0] == 16 + 256


def test_a_family_without_t5_is_used_without_it(family: Path) -> None:
    on, off = encoder(family, t5=True), encoder(family, t5=False)
    assert on.id == off.id
    np.testing.assert_array_equal(on.encode(["a cat"])[0].tokens, off.encode(["a cat"])[0].tokens)
    with pytest.raises(ModelError, match=r"pooled: t5 needs a T5 encoder, which it lacks; use pooled: clip"):
        encoder(family, pooled="t5")


def test_a_prompt_is_encoded_alike_in_any_company(family: Path) -> None:
    model = encoder(family)
    alone = model.encode(PROMPTS[1:2])[0]
    beside = model.encode(PROMPTS)[1]
    np.testing.assert_array_equal(alone.tokens, beside.tokens)
    np.testing.assert_array_equal(alone.pooled, beside.pooled)


# images


def test_embeddings_of_the_bank_give_the_images_that_prompts_give(family: Path) -> None:
    model = encoder(family)
    nothing = model.encode(["blurred"])[0]
    by_prompt = images_of(renderer(family).render(jobs_of(negative="blurred")))
    brought = [
        dataclasses.replace(job, embedding=model.encode([job.prompt])[0], negative_embedding=nothing)
        for job in jobs_of(negative="blurred")
    ]
    lean = renderer(family)
    by_bank = images_of(lean.render(brought))
    assert lean._text is None, "a text encoder was loaded for nothing"
    np.testing.assert_array_equal(by_bank, by_prompt)
    assert by_prompt[0].shape == (32, 32, 3) and by_prompt[0].dtype == np.uint8
    assert len({image.tobytes() for image in by_prompt}) == len(PROMPTS)


def test_prompt_negative_prompt_and_seed_each_change_the_image(family: Path) -> None:
    model = renderer(family, guidance=7.0)
    (job,) = jobs_of(PROMPTS[:1])
    changed = [
        job,
        dataclasses.replace(job, prompt="a dog"),
        dataclasses.replace(job, negative="a cat"),
        dataclasses.replace(job, seed=job.seed + 1),
    ]
    assert len({image.tobytes() for image in images_of(model.render(changed))}) == 4
    np.testing.assert_array_equal(
        *images_of(renderer(family, guidance=7.0).render([job, dataclasses.replace(job, key="other")]))
    )


def test_an_image_does_not_depend_on_what_is_rendered_beside_it(tmp_path: Path) -> None:
    model = renderer(write_trained_size(tmp_path), steps=2)  # the shipped shape: which kernels run follows from it
    jobs = jobs_of(height_px=64, width_px=64)
    expected = images_of(model.render(jobs))
    torch.set_num_threads(3)  # would cut a batch at places that are no image's edge
    try:
        (alone,) = images_of(model.render(jobs[3:4]))
        pair = images_of(model.render([jobs[4], jobs[0]]))
        order = [4, 1, 3, 0, 2]
        mixed = images_of(model.render([jobs[at] for at in order]))
    finally:
        torch.set_num_threads(1)
    np.testing.assert_array_equal(alone, expected[3])
    np.testing.assert_array_equal(pair, [expected[4], expected[0]])
    np.testing.assert_array_equal(mixed, [expected[at] for at in order])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(images, threads) of each call of the pipeline."""
    noted: list[tuple[int, int]] = []
    real = StableDiffusion3Pipeline.__call__

    def watched(self: Any, **inputs: Any) -> Any:
        noted.append((len(inputs["prompt_embeds"]), torch.get_num_threads()))
        return real(self, **inputs)

    monkeypatch.setattr(StableDiffusion3Pipeline, "__call__", watched)
    return noted


def test_every_call_of_the_model_has_one_shape(
    family: Path, calls: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(3)
    try:
        assert len(renderer(family).render(jobs_of())) == 5
        assert calls == [(4, 1), (4, 1)]
        assert torch.get_num_threads() == 3
        calls.clear()
        assert len(renderer(family, group=3).render(jobs_of()[:4])) == 4
        assert calls == [(3, 1), (3, 1)]
        calls.clear()
        monkeypatch.setattr(sd3, "SMALL", 0.0)  # as for a large model: each image alone, on all threads
        assert len(renderer(family).render(jobs_of()[:2])) == 2
        assert calls == [(1, 3), (1, 3)]
    finally:
        torch.set_num_threads(1)
    assert renderer(family).render([]) == []


# layouts


@pytest.fixture(scope="module")
def controlled(family: Path) -> sd3.Sd3Renderer:
    return renderer(family, controlnet=str(family / "controlnet"), control_palette=PALETTE)


def test_a_layout_steers_the_image_and_nothing_else_does(controlled: sd3.Sd3Renderer) -> None:
    (job,) = jobs_of(PROMPTS[:1], layout=layout(2, 0))
    torch.manual_seed(1)
    (first,) = images_of(controlled.render([job]))
    torch.manual_seed(2)
    again, other = images_of(controlled.render([job, dataclasses.replace(job, layout=layout(8, 0))]))
    np.testing.assert_array_equal(again, first)
    assert (other != first).any()
    # twice as large and the same classes: nearest neighbours give the same map
    (enlarged,) = images_of(
        controlled.render([dataclasses.replace(job, layout=layout(2, 0).repeat(2, 0).repeat(2, 1))])
    )
    np.testing.assert_array_equal(enlarged, first)


def test_a_controlnet_is_heard_in_its_range_of_steps_alone(family: Path, controlled: sd3.Sd3Renderer) -> None:
    (job,) = jobs_of(PROMPTS[:1])
    jobs = [dataclasses.replace(job, layout=layout(number, 0)) for number in (2, 8)]

    def of(*heard: float) -> list[np.ndarray]:
        given = {"controlnet": str(family / "controlnet"), "control_palette": PALETTE, "control_range": heard}
        return images_of(renderer(family, **given).render(jobs))

    for whole, same in zip(images_of(controlled.render(jobs)), of(0.0, 1.0), strict=True):
        np.testing.assert_array_equal(whole, same)
    never = of(0.0, 1e-6)  # ends before the first step does
    np.testing.assert_array_equal(never[0], never[1])
    early, late = of(0.0, 0.5), of(0.5, 1.0)
    assert (early[0] != early[1]).any() and (late[0] != late[1]).any() and (early[0] != late[0]).any()
    with pytest.raises(ValueError, match="the first below the second"):
        sd3.Options(control_range=(0.5, 0.5))
    with pytest.raises(ValueError, match="leave one of them out"):
        sd3.Options(control_range=(0.0, 0.5), step_cache={"threshold": 0.1})


def test_controlled_images_do_not_depend_on_their_neighbours(controlled: sd3.Sd3Renderer) -> None:
    jobs = [dataclasses.replace(job, layout=layout(number, 8)) for number, job in enumerate(jobs_of())]
    together = images_of(controlled.render(jobs))
    alone = [image for job in reversed(jobs) for image in images_of(controlled.render([job]))]
    np.testing.assert_array_equal(alone[::-1], together)


def test_a_layout_needs_a_controlnet_and_the_other_way_round(family: Path, controlled: sd3.Sd3Renderer) -> None:
    with pytest.raises(ModelError, match="needs a label map for every image; prompt 'a red car on sand' has none"):
        controlled.render(jobs_of(PROMPTS[:1]))
    with pytest.raises(ModelError, match="would ignore the label maps"):
        renderer(family).render(jobs_of(PROMPTS[:1], layout=layout(0, 1)))


# what goes wrong


def test_an_image_that_is_not_finite_has_a_reason_and_spoils_no_other(family: Path, tmp_path: Path) -> None:
    model = encoder(family)
    jobs = [dataclasses.replace(job, embedding=model.encode([job.prompt])[0]) for job in jobs_of()]
    expected = images_of(renderer(family).render(jobs))
    broken = dataclasses.replace(jobs[2].embedding, tokens=np.full_like(jobs[2].embedding.tokens, np.nan))
    made = renderer(family).render([*jobs[:2], dataclasses.replace(jobs[2], embedding=broken), *jobs[3:]])
    assert made[2].image is None and made[2].reason == "not_finite"
    np.testing.assert_array_equal(images_of([*made[:2], *made[3:]]), [*expected[:2], *expected[3:]])

    spoilt = shutil.copytree(family, tmp_path / "spoilt")
    weights = load_file(spoilt / "vae" / "diffusion_pytorch_model.safetensors")
    weights["decoder.conv_out.bias"][:] = torch.nan
    save_file(weights, spoilt / "vae" / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    assert [result.reason for result in renderer(spoilt).render(jobs[:2])] == ["not_finite"] * 2


@pytest.mark.parametrize(
    ("height", "width", "says"),
    [
        (36, 32, r"render\.height_px x width_px = 36 x 32: sd3:.* makes sizes that are multiples of 8 px"),
        (32, 200, r"render\.height_px x width_px = 32 x 200: sd3:.* has positions for 192 px a side at the most"),
    ],
)
def test_a_size_that_the_model_cannot_make(family: Path, height: int, width: int, says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        renderer(family).render(jobs_of(PROMPTS[:1], height_px=height, width_px=width))
    assert "\n" not in str(caught.value)


def test_jobs_of_one_call_have_one_size(family: Path) -> None:
    first, second = jobs_of(PROMPTS[:2])
    with pytest.raises(ValueError, match="one size"):
        renderer(family).render([first, dataclasses.replace(second, width_px=40)])


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "no-cache"))
    yield


@pytest.mark.usefixtures("offline")
def test_weights_that_cannot_be_reached_give_one_line(family: Path) -> None:
    for build in (renderer, encoder):
        with pytest.raises(
            ModelError, match="'some-body/some-model' is not in the local cache and the Hub cannot be reached"
        ) as caught:
            build(Path("some-body/some-model"))
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="'some-body/some-net' is not in the local cache"):
        renderer(family, controlnet="some-body/some-net")


def test_a_folder_of_another_kind_gives_one_line(family: Path, tmp_path: Path) -> None:
    for model in (tmp_path, family / "vae"):
        for build in (renderer, encoder):
            with pytest.raises(
                ModelError, match=r"cannot be loaded|lacks a file|not in the local cache|not on the Hub"
            ) as caught:
                build(model)
            assert str(model) in str(caught.value)
            assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="controlnet"):
        renderer(family, controlnet=str(tmp_path / "controlnet"))
