"""The recipe `photos` from prompts to a dataset, with folders of the published kinds and random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from doubles.sam_folders import write_sam2
from doubles.tiny_pipelines import letters, write_z_image
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    BitImageProcessor,
    Dinov2Config,
    Dinov2Model,
    GemmaTokenizer,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
)

from synthgen.backends import statement
from synthgen.models.used import used_parts
from synthgen.planning.machine import Gpu, Machine
from synthgen.planning.readiness import check_recipe
from synthgen.recipe import read_recipe

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
DRAWN = ("labels.space=objects", "prompts.source.vocabulary=objects", "support.folder=''",
         "support.drawn={world: objects}")  # fmt: skip


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    """recipe key -> folder."""
    torch.manual_seed(0)
    bert, dino, siglip = (tmp_path / name for name in ("bert", "dino", "siglip"))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photo", "of", "cat", "bus", "on", "in", "the"]
    BertModel(BertConfig(**SMALL, vocab_size=len(words))).save_pretrained(bert)
    (bert / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(vocab=str(bert / "vocab.txt")).save_pretrained(bert)
    Dinov2Model(Dinov2Config(**SMALL, image_size=56, patch_size=14)).save_pretrained(dino)
    BitImageProcessor(image_mean=[0.5] * 3, image_std=[0.2] * 3).save_pretrained(dino)
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", *letters()]
    tokenizer = GemmaTokenizer(vocab={word: n for n, word in enumerate(pieces)}, merges=[], model_max_length=16)
    text = {**SMALL, "vocab_size": len(pieces), "max_position_embeddings": 16}
    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(siglip)
    SiglipProcessor(SiglipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(siglip)
    return {
        "prompts.embedder": bert,
        "render.renderer": write_z_image(tmp_path / "z_image"),
        "refine.features": dino,
        "refine.mask_decoder": write_sam2(tmp_path / "sam2"),
        "filter.scorer": siglip,
    }


def test_photos_runs_from_prompts_to_a_dataset(
    cli: Callable[..., Any], models: dict[str, Path], tmp_path: Path
) -> None:
    settings = [
        *DRAWN, "labels.classes=[cat, bus]", "prompts.per_class=2", "prompts.lambda_div=1.0", "support.shots=1",
        "render.height_px=64", "render.width_px=64", "render.renderer.steps=1", "refine.features.longest_side_px=56",
        "refine.background_prototypes=1", "refine.apf={lambda_apf: -1.0, min_region_px: 1}",
        "refine.apr.min_cosine=-1.0", "execution.device=cpu", "execution.unit_rows=2",
        "filter.rules={min_class_fraction: 0.0, min_labelled_fraction: 0.0, min_pixel_std: 0.0}",
        *(f"{key}.model={folder}" for key, folder in models.items()),
    ]  # fmt: skip
    done = cli("run", "photos", *(word for each in settings for word in ("--set", each)))
    assert done.exit_code == 0, (done.output, done.exception)
    dataset = tmp_path / "runs" / "photos" / "dataset"
    index = json.loads((dataset / "index.json").read_text())
    assert len(index["samples"]) == 4
    card = (dataset / "README.md").read_text()
    for folder in models.values():
        assert folder.name in card, folder.name


def test_photos_needs_no_gate_no_file_and_sixteen_gigabytes() -> None:
    recipe = read_recipe("photos", [*DRAWN])
    for _, role, config in used_parts(recipe):
        for licence in statement(role, config, "licences", {}).values():
            assert licence.name == "apache-2.0", config
    card = Machine("Linux", "3.11", 8, 500.0, (Gpu("RTX 4080", 16.0),), {}, False, False, (), {})
    check = check_recipe(recipe, card)
    assert check.would_run, check.missing
    assert not [note for note in check.notes if "encodes each prompt again" in note], "Z-Image takes no embeddings"
    tight = Machine("Linux", "3.11", 8, 500.0, (Gpu("RTX 3060", 12.0),), {}, False, False, (), {})
    assert any("GB are needed" in line for line in check_recipe(recipe, tight).missing)
