"""The networks of the minis' denoiser: SD3 in miniature, with random weights."""

from __future__ import annotations

import gzip
from pathlib import Path

import torch
from diffusers import SD3Transformer2DModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from synthgen.training.flow import Flow

# ids of CLIP's own byte-pair vocabulary, cut after its first merges: ids agree with CLIP's below the cut
VOCABULARY = 8192
WIDTH, LAYERS, HEADS = 192, 6, 6
TEXT_WIDTH = 128


def mini_flow(length: int) -> Flow:
    """The objective over new mini networks, for captions of `length` tokens."""
    encoders = (text_encoder(length), text_encoder(length))
    return Flow(tokenizer(length), encoders, transformer())


def tokenizer(length: int) -> CLIPTokenizer:
    """CLIP's tokenizer with a vocabulary cut to VOCABULARY ids, padded with the end token to `length`."""
    import open_clip

    lines = (
        gzip.decompress((Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz").read_bytes())
        .decode("utf-8")
        .split("\n")
    )
    merges = [tuple(line.split()) for line in lines[1 : 1 + VOCABULARY - 512 - 2]]
    from open_clip.tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    words = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges]
    vocabulary = {word: number for number, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)


def text_encoder(length: int) -> CLIPTextModelWithProjection:
    """A two-layer CLIP text encoder. Two layers, since SD3 reads the hidden state before the last one."""
    config = CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=length,
        bos_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1,
        pad_token_id=VOCABULARY - 1,
        hidden_act="quick_gelu",
    )
    encoder = CLIPTextModelWithProjection(config)
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if name.endswith("token_embedding.weight"):
                weight.mul_(10)  # CLIP's initial scale (0.02) leaves words nearly alike for thousands of steps
    return encoder


def transformer() -> SD3Transformer2DModel:
    """The mini MMDiT: 192 wide, 6 blocks, 2x2 latent patches, room for 24 x 24 patches."""
    return SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=LAYERS,
        attention_head_dim=WIDTH // HEADS,
        num_attention_heads=HEADS,
        joint_attention_dim=2 * TEXT_WIDTH,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=2 * TEXT_WIDTH,
        pos_embed_max_size=24,
        qk_norm="rms_norm",
    )
