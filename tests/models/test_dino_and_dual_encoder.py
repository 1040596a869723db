"""DINOv2, DINOv3, SigLIP and CLIP through transformers: the library's own classes with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from doubles.published import without_tensor
from doubles.tiny_pipelines import clip_tokenizer, letters
from transformers import (
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    Dinov2Config,
    Dinov2Model,
    DINOv3ViTConfig,
    DINOv3ViTImageProcessor,
    DINOv3ViTModel,
    GemmaTokenizer,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
)

from synthgen.backends import cost, load, statement
from synthgen.errors import ModelError
from synthgen.settings import Execution

CPU = Execution(device="cpu")
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture(scope="module")
def dinos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(**SMALL, image_size=56, patch_size=14)).save_pretrained(folder / "dinov2")
    BitImageProcessor(image_mean=MEAN, image_std=STD).save_pretrained(folder / "dinov2")
    config = DINOv3ViTConfig(**SMALL, image_size=64, patch_size=16, num_register_tokens=4)
    DINOv3ViTModel(config).save_pretrained(folder / "dinov3")
    DINOv3ViTImageProcessor(image_mean=MEAN, image_std=STD).save_pretrained(folder / "dinov3")
    return {"dinov2": folder / "dinov2", "dinov3": folder / "dinov3"}


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("towers")
    torch.manual_seed(0)
    vision, sides = {**SMALL, "image_size": 32, "patch_size": 8}, {"height": 32, "width": 32}
    tokenizer = clip_tokenizer(16)
    text = {**SMALL, "vocab_size": len(tokenizer), "max_position_embeddings": 16, "eos_token_id": len(tokenizer) - 1}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).save_pretrained(folder / "clip")
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=sides)
    CLIPProcessor(images, tokenizer).save_pretrained(folder / "clip")
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", *letters()]
    gemma = GemmaTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=[], model_max_length=16)
    text = {**SMALL, "vocab_size": len(words), "max_position_embeddings": 16}
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder / "siglip")
    SiglipProcessor(SiglipImageProcessor(size=sides), gemma).save_pretrained(folder / "siglip")
    return {"clip": folder / "clip", "siglip": folder / "siglip"}


def picture(seed: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize(("name", "patch_px", "first"), [("dinov2", 14, 1), ("dinov3", 16, 5)])
def test_a_cell_is_the_networks_own_patch_token(dinos: dict[str, Path], name: str, patch_px: int, first: int) -> None:
    rows, columns = 2, 4
    image = picture(0, (rows * patch_px, columns * patch_px))
    options = {"name": "dino", "model": str(dinos[name]), "longest_side_px": columns * patch_px}
    model = load("feature_extractor", options, CPU)
    grid, other = model.features([image, picture(1, (50, 20))])
    assert grid.shape == (rows, columns, 16) and grid.dtype == np.float32 and other.shape[:2] == (columns, 2)
    np.testing.assert_allclose(np.linalg.norm(grid, axis=-1), 1, atol=1e-5)
    kind = {"dinov2": Dinov2Model, "dinov3": DINOv3ViTModel}[name]
    pixels = (torch.from_numpy(image).permute(2, 0, 1)[None] / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(
        STD
    )[:, None, None]
    with torch.inference_mode():
        tokens = kind.from_pretrained(dinos[name]).eval()(pixels).last_hidden_state[0, first:]
    expected = torch.nn.functional.normalize(tokens, dim=-1).reshape(rows, columns, -1)
    np.testing.assert_allclose(grid, expected, atol=1e-5)
    np.testing.assert_array_equal(model.features([image])[0], grid)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_both_towers_meet_in_one_space(towers: dict[str, Path], name: str) -> None:
    model = load("image_scorer", {"name": "dual_encoder", "model": str(towers[name])}, CPU)
    images, texts = [picture(0, (40, 30)), picture(1, (32, 32))], ["a red car", "A Horse " * 30]
    by_image, by_text = model.embed_images(images), model.embed_texts(texts)
    assert by_image.shape == by_text.shape == (2, 12 if name == "clip" else 16)
    assert by_image.dtype == by_text.dtype == np.float32
    for vectors in (by_image, by_text):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert (vectors[0] != vectors[1]).any()
    np.testing.assert_array_equal(model.embed_texts(texts[:1])[0], by_text[0])
    assert model.embed_images([]).shape == (0, by_image.shape[1])
    if name == "siglip":
        np.testing.assert_array_equal(model.embed_texts(["A RED CAR"])[0], by_text[0])  # as it was trained


def test_siglips_texts_fill_its_context_as_in_its_training(towers: dict[str, Path]) -> None:
    model = load("image_scorer", {"name": "dual_encoder", "model": str(towers["siglip"])}, CPU)
    found = model.embed_texts(["a car"])[0]
    plain = SiglipModel.from_pretrained(towers["siglip"]).eval()
    tokenizer = SiglipProcessor.from_pretrained(towers["siglip"]).tokenizer
    with torch.inference_mode():
        ids = tokenizer(["a car"], padding="max_length", max_length=16, truncation=True, return_tensors="pt").input_ids
        assert ids.shape == (1, 16)
        expected = plain.text_model(input_ids=ids).pooler_output[0]
    np.testing.assert_allclose(found, torch.nn.functional.normalize(expected, dim=-1), atol=1e-5)


@pytest.mark.parametrize(("role", "name"), [("feature_extractor", "dino"), ("image_scorer", "dual_encoder")])
def test_another_kind_and_missing_weights_are_one_line(
    role: str, name: str, dinos: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ModelError, match=r"its config.json says 'bert'.*(refine|filter)\."):
        load(role, {"name": name, "model": str(tmp_path)}, CPU)
    if name == "dino":
        torn = tmp_path / "torn"
        torch.manual_seed(0)
        Dinov2Model(Dinov2Config(**SMALL, image_size=56, patch_size=14)).save_pretrained(torn)
        without_tensor(torn, "layernorm.weight")
        with pytest.raises(ModelError, match="lack 1 of its tensors"):
            load(role, {"name": name, "model": str(torn)}, CPU)


def test_the_dry_run_knows_the_released_ones(dinos: dict[str, Path], towers: dict[str, Path]) -> None:
    for role, name, model in (
        ("feature_extractor", "dino", "facebook/dinov2-large"),
        ("feature_extractor", "dino", "facebook/dinov3-vitl16-pretrain-lvd1689m"),
        ("image_scorer", "dual_encoder", "google/siglip2-base-patch16-256"),
        ("image_scorer", "dual_encoder", "openai/clip-vit-large-patch14"),
    ):
        found = cost(role, {"name": name, "model": model}, (1024, 1024), CPU)
        assert found is not None and found.parameters > 3e8 and sum(found.downloads_gb.values()) > 1, model
    for role, name, place in (
        ("feature_extractor", "dino", dinos["dinov2"]),
        ("image_scorer", "dual_encoder", towers["siglip"]),
    ):
        found = cost(role, {"name": name, "model": str(place)}, (64, 64), CPU)
        assert found is not None and found.parameters > 1e3 and not found.downloads_gb
    assert cost("feature_extractor", {"name": "dino", "model": "nobody/nothing"}, (64, 64), CPU) is None
    licence = statement("feature_extractor", {"name": "dino"}, "licences", {})["facebook/dinov2-large"]
    assert licence.name == "apache-2.0"
