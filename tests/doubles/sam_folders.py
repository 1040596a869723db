"""SAM in transformers' layout: the weights of the mini SAM under its names, and a SAM 2 of random weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from transformers import (
    Sam2Config,
    Sam2ImageProcessor,
    Sam2Model,
    Sam2Processor,
    SamConfig,
    SamImageProcessor,
    SamModel,
    SamProcessor,
)

_NAMES = (  # of segment_anything -> of transformers, in the order of their conversion
    (r"^image_encoder\.", "vision_encoder."),
    (r"^vision_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"^vision_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^(vision_encoder\.layers\.\d+)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"\.neck\.0\.", ".neck.conv1."),
    (r"\.neck\.1\.", ".neck.layer_norm1."),
    (r"\.neck\.2\.", ".neck.conv2."),
    (r"\.neck\.3\.", ".neck.layer_norm2."),
    (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"^prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"^prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"^prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"^prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"^prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (
        r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$",
        "prompt_encoder.shared_embedding.positional_embedding",
    ),
    (r"^mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"^mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"^mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (r"^(mask_decoder\.(?:iou_prediction_head|output_hypernetworks_mlps\.\d))\.layers\.0\.", r"\1.proj_in."),
    (r"^(mask_decoder\.(?:iou_prediction_head|output_hypernetworks_mlps\.\d))\.layers\.1\.", r"\1.layers.0."),
    (r"^(mask_decoder\.(?:iou_prediction_head|output_hypernetworks_mlps\.\d))\.layers\.2\.", r"\1.proj_out."),
    (r"^(mask_decoder\.transformer\.layers\.\d)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"^mask_decoder\.transformer\.norm_final_attn\.", "mask_decoder.transformer.layer_norm_final_attn."),
)


def write_sam(sam: Any, config: dict[str, Any], folder: Path) -> Path:
    """A `segment_anything.modeling.Sam`, constructed from `config` (segkit.networks.sam.MINI), as transformers saves
    it."""
    side, patch = config["image_size"], config["patch_size"]
    vision = {
        "hidden_size": config["encoder_dim"], "output_channels": config["prompt_dim"], "image_size": side,
        "num_hidden_layers": config["encoder_depth"], "num_attention_heads": config["encoder_heads"],
        "patch_size": patch, "window_size": config["window_size"], "mlp_dim": 4 * config["encoder_dim"],
        "global_attn_indexes": config["global_attention"], "num_pos_feats": config["prompt_dim"] // 2,
    }  # fmt: skip
    prompt = {
        "hidden_size": config["prompt_dim"], "image_size": side, "patch_size": patch, "mask_input_channels": 16,
        "image_embedding_size": side // patch,
    }  # fmt: skip
    decoder = {
        "hidden_size": config["prompt_dim"], "mlp_dim": config["decoder_mlp"],
        "num_hidden_layers": config["decoder_depth"], "num_attention_heads": config["decoder_heads"],
        "iou_head_hidden_dim": config["iou_hidden"],
    }  # fmt: skip
    model = SamModel(SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder))
    weights = {}
    for name, value in sam.state_dict().items():
        if name.startswith(("pixel_mean", "pixel_std")):
            continue
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        weights[name] = value
    shared = weights["prompt_encoder.shared_embedding.positional_embedding"]
    weights["shared_image_embedding.positional_embedding"] = shared
    model.load_state_dict(weights)
    model.save_pretrained(folder)
    square = {"height": side, "width": side}
    images = SamImageProcessor(
        size={"longest_edge": side}, pad_size=square, mask_size={"longest_edge": side // patch * 4}
    )
    SamProcessor(images).save_pretrained(folder)
    return folder


def write_sam2(folder: Path) -> Path:
    """A SAM 2 of the published shape at a sixteenth of its size: four stages, three levels, random weights."""
    torch.manual_seed(5)
    side = 64
    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 8, "num_attention_heads": 1, "image_size": [side, side],
        "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 2, 4, 8], "window_size_per_stage": [4, 2, 4, 2],
        "global_attention_blocks": [3], "window_positional_embedding_background_size": [4, 4],
    }  # fmt: skip
    vision = {
        "backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    }  # fmt: skip
    config = Sam2Config(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 32, "image_size": side, "patch_size": 16},
        mask_decoder_config={"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16},
    )
    Sam2Model(config).save_pretrained(folder)
    images = Sam2ImageProcessor(size={"height": side, "width": side}, mask_size={"height": 16, "width": 16})
    Sam2Processor(images).save_pretrained(folder)
    return folder
