"""The recipe `syn4seg` with local folders in place of its model names:

its own backends load and run the full-size shapes.

Widths, heads, image sizes and vocabularies are the published ones; layers and positions are few and weights random, so
images and masks mean nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthgen.backends import load
from synthgen.models import MaskPrompts, RenderJob, TextEmbedding
from synthgen.recipe import chosen_backends, read_recipe
from synthgen.settings import Execution
from synthgen.training.precision import mixed_precision

EXACT = Execution(device="cpu", dtype="float32")
# a processor without bfloat16 emulates it, a hundred times slower: minutes a test
pytestmark = [] if mixed_precision("cpu") == "bf16" else [pytest.mark.slow]
HALF = Execution(device="cpu", dtype="bfloat16")  # what a GPU takes by default, and half the memory
PROMPTS = ("a red car on sand", "a horse on grass")
CLIP_TOKENS, T5_TOKENS = 77, 16
SIDE_PX = 96
PLACES = {
    "text_encoder": "prompts.embedder",
    "renderer": "render.renderer",
    "mask_decoder": "refine.mask_decoder",
    "feature_extractor": "refine.features",
    "image_scorer": "filter.scorer",
}


def backend(role: str, model: Path, execution: Execution, **options: Any) -> Any:
    """The backend that the recipe names for a role, with another model and some options changed."""
    settings = {"model": model, **options}
    recipe = read_recipe("syn4seg", [f"{PLACES[role]}.{key}={value}" for key, value in settings.items()])
    return load(role, chosen_backends(recipe)[role], execution)


@pytest.fixture(scope="module")
def with_t5(sd35_large: Path) -> list[TextEmbedding]:
    model = backend("text_encoder", sd35_large, EXACT, max_sequence_length=T5_TOKENS)
    assert model.id.endswith(f":clip+t5:{T5_TOKENS}")
    return model.encode([*PROMPTS, ""])


def test_three_text_encoders_fill_the_denoisers_width(with_t5: list[TextEmbedding]) -> None:
    for embedding in with_t5:
        assert embedding.tokens.shape == (CLIP_TOKENS + T5_TOKENS, 4096)
        assert embedding.pooled.shape == (768 + 1280,)
        assert np.isfinite(embedding.tokens).all() and np.isfinite(embedding.pooled).all()
        # the two CLIPs side by side, then zeros up to T5's width
        assert not embedding.tokens[:CLIP_TOKENS, 2048:].any()
        assert embedding.tokens[CLIP_TOKENS:].any(axis=0).all()
    first, second, _ = with_t5
    assert (first.pooled[:768] != second.pooled[:768]).any() and (first.pooled[768:] != second.pooled[768:]).any()
    assert (first.tokens[CLIP_TOKENS:] != second.tokens[CLIP_TOKENS:]).any()


def test_without_t5_zeros_stand_for_its_tokens(sd35_large: Path, with_t5: list[TextEmbedding]) -> None:
    model = backend("text_encoder", sd35_large, EXACT, max_sequence_length=T5_TOKENS, t5=False)
    assert "t5" not in model.id.split(":clip")[1]
    [embedding] = model.encode(PROMPTS[:1])
    assert embedding.tokens.shape == with_t5[0].tokens.shape
    assert not embedding.tokens[CLIP_TOKENS:].any()
    np.testing.assert_array_equal(embedding.tokens[:CLIP_TOKENS], with_t5[0].tokens[:CLIP_TOKENS])
    np.testing.assert_array_equal(embedding.pooled, with_t5[0].pooled)


def job_of(embeddings: list[TextEmbedding]) -> RenderJob:
    return RenderJob(
        key="k", prompt=PROMPTS[0], negative="", seed=1, height_px=SIDE_PX, width_px=SIDE_PX,
        embedding=embeddings[0], negative_embedding=embeddings[2], photograph=None, layout=None,
    )  # fmt: skip


def rendered(model: Any, jobs: list[RenderJob]) -> list[np.ndarray]:
    images = [result.image for result in model.render(jobs)]
    for image in images:
        assert image is not None, "not finite"
        assert image.shape == (SIDE_PX, SIDE_PX, 3) and image.dtype == np.uint8
        assert image.std() > 5
    return list(images)


def test_an_image_with_and_without_a_controlnet(
    sd35_large: Path, with_t5: list[TextEmbedding], give_memory_back: Callable[[], None]
) -> None:
    model = backend("renderer", sd35_large, HALF, steps=1, max_sequence_length=T5_TOKENS)
    assert (
        model._pipeline.transformer.inner_dim,
        model._pipeline.vae_scale_factor,
        model._pipeline.vae.config.latent_channels,
    ) == (2432, 8, 16)
    job = job_of(with_t5)
    [plain] = rendered(model, [job])
    del model
    give_memory_back()

    net = {"controlnet": sd35_large / "controlnet", "control_palette": "cityscapes"}
    controlled = backend("renderer", sd35_large, HALF, steps=1, max_sequence_length=T5_TOKENS, **net)
    road = np.full((SIDE_PX, SIDE_PX), 0, np.uint8)
    sky = road.copy()
    sky[: SIDE_PX // 2] = 10
    one, other = rendered(controlled, [dataclasses.replace(job, layout=road), dataclasses.replace(job, layout=sky)])
    assert (one != plain).mean() > 0.1
    assert (one != other).mean() > 0.1


def test_sam_vit_h_gives_masks_of_the_images_size(sam_vit_h: Path) -> None:
    decoder = backend("mask_decoder", sam_vit_h, HALF)
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    [(masks, ious)] = decoder.decode([image], [MaskPrompts(np.array([[5, 5, 40, 50], [30, 10, 90, 60]], np.float32))])
    assert masks.shape == (2, 60, 90) and masks.dtype == bool
    assert ious.shape == (2,) and ((ious >= 0) & (ious <= 1)).all()


def test_clip_vit_l_14_scores_images_and_gives_a_feature_for_each_patch(clip_vit_l_14: Path) -> None:
    images = [np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8) for seed in (0, 1)]
    scorer = backend("image_scorer", clip_vit_l_14, EXACT)
    for vectors in (scorer.embed_images(images), scorer.embed_texts(PROMPTS)):
        assert vectors.shape == (2, 768) and vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert (vectors[0] != vectors[1]).any()
    grids = backend("feature_extractor", clip_vit_l_14, EXACT).features(images)
    assert [grid.shape for grid in grids] == [(12, 16, 768)] * 2
    np.testing.assert_allclose(np.linalg.norm(grids[0], axis=-1), 1, atol=1e-5)
