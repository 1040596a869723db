"""A SAM 3 of the published shape, a hundredth of its widths, random weights, in transformers' layout."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Sam3Config, Sam3ImageProcessor, Sam3Model, Sam3Processor

from doubles.tiny_pipelines import clip_tokenizer

SIDE = 56
TOKENS = 32  # of a text, as the published processor pads it


def sam3_config() -> Sam3Config:
    """Patches of 14 px, four levels of features, one layer of everything."""
    size = len(clip_tokenizer(TOKENS))
    backbone = {
        "model_type": "sam3_vit_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": SIDE, "pretrain_image_size": SIDE, "window_size": 2,
        "global_attn_indexes": [1],
    }  # fmt: skip
    small = {"hidden_size": 16, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    return Sam3Config(
        vision_config={
            "backbone_config": backbone, "fpn_hidden_size": 16,
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        },
        text_config={
            "model_type": "clip_text_model", "vocab_size": size, "hidden_size": 16, "intermediate_size": 32,
            "projection_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "max_position_embeddings": TOKENS, "eos_token_id": size - 1, "bos_token_id": size - 2,
        },
        geometry_encoder_config=small, detr_encoder_config=small,
        detr_decoder_config={**small, "num_queries": 5},
        mask_decoder_config={"hidden_size": 16, "num_attention_heads": 2},
    )  # fmt: skip


def write_sam3(folder: Path) -> Path:
    """Scores spread over 0..1: the last layers are scaled, or random masks would all be half sure."""
    torch.manual_seed(4)
    model = Sam3Model(sam3_config())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.4)
    model.save_pretrained(folder)
    square = {"height": SIDE, "width": SIDE}
    images = Sam3ImageProcessor(size=square, mask_size={"height": 16, "width": 16})
    Sam3Processor(images, clip_tokenizer(TOKENS)).save_pretrained(folder)
    return folder
