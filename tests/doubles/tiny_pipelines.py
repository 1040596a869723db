"""Text-to-image folders of other families as diffusers saves them: published parts, a few channels, random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3Model,
)


def letters() -> dict[str, int]:
    """Byte-level letters, as BPE vocabularies begin."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {letter: number for number, letter in enumerate(bytes_to_unicode().values())}


def clip_tokenizer(length: int = 77) -> CLIPTokenizer:
    vocabulary = letters()
    vocabulary |= {f"{letter}</w>": len(vocabulary) + number for number, letter in enumerate(letters())}
    for word in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[word] = len(vocabulary)
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=length)


def vae(latent_channels: int = 4) -> AutoencoderKL:
    torch.manual_seed(1)
    return AutoencoderKL(
        block_out_channels=(8, 16), latent_channels=latent_channels, norm_num_groups=4, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1,
        scaling_factor=0.36, shift_factor=0.12,
    )  # fmt: skip


def write_z_image(folder: Path) -> Path:
    """The parts of Tongyi-MAI/Z-Image-Turbo."""
    torch.manual_seed(0)
    vocabulary = letters()
    vocabulary["<|endoftext|>"] = len(vocabulary)
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[])
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    text = Qwen3Model(
        Qwen3Config(
            vocab_size=len(vocabulary), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2, head_dim=8,
        )
    )  # fmt: skip
    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
        axes_dims=[4, 6, 6], axes_lens=[1024, 64, 64],
    )  # fmt: skip
    for name, weight in transformer.named_parameters():
        if "pad_token" in name:  # made empty, and overwritten when the real weights come
            torch.nn.init.normal_(weight)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    ZImagePipeline(scheduler, vae(), text, tokenizer, transformer).save_pretrained(folder)
    return folder


def write_sdxl(folder: Path) -> Path:
    """The parts of stabilityai/stable-diffusion-xl-base-1.0."""
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        projection_dim=16, bos_token_id=len(tokenizer) - 2, eos_token_id=len(tokenizer) - 1, pad_token_id=1,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, sample_size=16, in_channels=4, out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4), use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, transformer_layers_per_block=(1, 1), projection_class_embeddings_input_dim=64,
        cross_attention_dim=32, norm_num_groups=4,
    )  # fmt: skip
    StableDiffusionXLPipeline(
        vae(), CLIPTextModel(config), CLIPTextModelWithProjection(config), tokenizer, clip_tokenizer(), unet,
        EulerDiscreteScheduler(), force_zeros_for_empty_prompt=True,
    ).save_pretrained(folder)  # fmt: skip
    return folder
