"""The sampler of the training's grids against the stock pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from doubles.mini_family import write_family

from synthgen.models.acceleration import encode_without_noise
from synthgen.training.pipelines import load_pipeline
from synthgen.training.sampling import decoded, sample


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("control", [False, True])
def test_it_samples_what_the_stock_pipeline_samples(tmp_path: Path, guidance: float, control: bool) -> None:
    folder = write_family(tmp_path / "family", control_layers=1)
    pipeline = load_pipeline(folder, control=control)
    captions = ["a red car on the road", "a street in the snow"]
    states, empty, pooled, empty_pooled = pipeline.encode_prompt(
        captions, None, None, do_classifier_free_guidance=True, max_sequence_length=0
    )
    noise = torch.randn(2, 4, 16, 24, generator=torch.Generator().manual_seed(1))
    extra = {}
    condition = None
    if control:
        picture = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(2)) * 2 - 1
        encode_without_noise(pipeline.vae)  # the pipeline samples the condition's latents, one draw a branch
        condition = pipeline.vae.encode(picture).latent_dist.mean.detach() * pipeline.vae.config.scaling_factor
        extra = {"control_image": picture}
    expected = pipeline(
        prompt_embeds=states, pooled_prompt_embeds=pooled, negative_prompt_embeds=empty,
        negative_pooled_prompt_embeds=empty_pooled, height=64, width=96, num_inference_steps=4,
        guidance_scale=guidance, latents=noise, max_sequence_length=0, output_type="latent", **extra,
    ).images  # fmt: skip
    made = sample(
        pipeline.transformer, pipeline.controlnet if control else None, pipeline.scheduler, condition, (states, empty),
        (pooled, empty_pooled), noise, 4, guidance,
    )  # fmt: skip
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=1e-4)


def test_latents_become_pictures_as_the_pipeline_makes_them(tmp_path: Path) -> None:
    pipeline = load_pipeline(write_family(tmp_path / "family"))
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    raw = latents / pipeline.vae.config.scaling_factor + pipeline.vae.config.shift_factor
    expected = pipeline.image_processor.postprocess(pipeline.vae.decode(raw).sample.detach(), output_type="np")
    assert abs(decoded(pipeline.vae, latents).astype(int) - (expected * 255).round()).max() <= 1
