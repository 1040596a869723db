"""Folders and files as they are published: with a T5, with weights of a variant, and a denoiser in one file of its
authors' layout. Widths are small, weights random.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from doubles.mini_family import write_family

T5_WORDS = ("a", "red", "car", "on", "sand", "horse", "grass", "photo", "of")


def write_published(folder: Path, control_layers: int = 0) -> Path:
    """A family with three text encoders and no `synthgen.json`."""
    write_family(folder, control_layers)
    (folder / "synthgen.json").unlink()
    width = json.loads((folder / "transformer" / "config.json").read_text())["joint_attention_dim"]
    torch.manual_seed(3)
    config = T5Config(
        d_model=width, d_ff=32, d_kv=8, num_heads=2, num_layers=1, feed_forward_proj="gated-gelu", vocab_size=64,
        tie_word_embeddings=False, is_encoder_decoder=False, use_cache=False,
    )  # fmt: skip
    T5EncoderModel(config).save_pretrained(folder / "text_encoder_3")
    letters = [(letter, -8.0) for letter in "abcdefghijklmnopqrstuvwxyz,."]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -6.0), *((f"▁{word}", -4.0) for word in T5_WORDS)]
    T5Tokenizer(vocab=[*pieces, *letters], extra_ids=0, model_max_length=512).save_pretrained(folder / "tokenizer_3")
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    index |= {"text_encoder_3": ["transformers", "T5EncoderModel"], "tokenizer_3": ["transformers", "T5TokenizerFast"]}
    path.write_text(json.dumps(index))
    return folder


def weights_in(part: Path) -> Path:
    """The one file of weights of a part."""
    (path,) = part.glob("*.safetensors")
    return path


def without_tensor(part: Path, ending: str) -> str:
    """Take the first tensor whose name ends so out of a part's weights; returns its name."""
    path = weights_in(part)
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if name.endswith(ending))
    del tensors[name]
    save_file(tensors, path, metadata={"format": "pt"})
    return name


def as_variant(part: Path, variant: str, shards: bool = False) -> None:
    """Give a part's weights the names of a variant, in one file or as an index of two."""
    path = weights_in(part)
    tensors = load_file(path)
    path.unlink()
    if not shards:
        save_file(tensors, part / f"{path.stem}.{variant}.safetensors", metadata={"format": "pt"})
        return
    names, places = sorted(tensors), {}
    for number in (0, 1):
        file = f"{path.stem}.{variant}-0000{number + 1}-of-00002.safetensors"
        some = {name: tensors[name] for name in names[number::2]}
        save_file(some, part / file, metadata={"format": "pt"})
        places |= dict.fromkeys(some, file)
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (part / f"{path.stem}.safetensors.index.{variant}.json").write_text(json.dumps(index))


_PLAIN = {
    "pos_embed.pos_embed": "pos_embed",
    "pos_embed.proj": "x_embedder.proj",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "context_embedder": "context_embedder",
    "proj_out": "final_layer.linear",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
}
_OF_A_BLOCK = {
    "attn.norm_q": "x_block.attn.ln_q",
    "attn.norm_k": "x_block.attn.ln_k",
    "attn.norm_added_q": "context_block.attn.ln_q",
    "attn.norm_added_k": "context_block.attn.ln_k",
    "attn.to_out.0": "x_block.attn.proj",
    "attn.to_add_out": "context_block.attn.proj",
    "norm1.linear": "x_block.adaLN_modulation.1",
    "norm1_context.linear": "context_block.adaLN_modulation.1",
    "ff.net.0.proj": "x_block.mlp.fc1",
    "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
}


def write_single_file(transformer: Any, path: Path) -> Path:
    """The weights of an SD3Transformer2DModel under the names of sd3.5_large.safetensors, beside a tensor of a VAE."""
    weights = {name: value.detach().clone() for name, value in transformer.state_dict().items()}
    last = len(transformer.transformer_blocks) - 1
    found: dict[str, torch.Tensor] = {"first_stage_model.decoder.conv_in.bias": torch.zeros(2)}
    for stream, names in (("x", ("to_q", "to_k", "to_v")), ("context", ("add_q_proj", "add_k_proj", "add_v_proj"))):
        for block in range(last + 1):
            for kind in ("weight", "bias"):
                parts = [weights.pop(f"transformer_blocks.{block}.attn.{name}.{kind}") for name in names]
                found[f"model.diffusion_model.joint_blocks.{block}.{stream}_block.attn.qkv.{kind}"] = torch.cat(parts)
    for name, value in weights.items():
        swapped = name.startswith(("norm_out.", f"transformer_blocks.{last}.norm1_context."))
        if swapped:  # scale and shift stand the other way round
            value = torch.cat(value.chunk(2)[::-1])
        found[f"model.diffusion_model.{_original(name)}"] = value.contiguous()
    save_file(found, path)
    return path


def _original(name: str) -> str:
    if name in _PLAIN:
        return _PLAIN[name]
    stem, _, kind = name.rpartition(".")
    if not stem.startswith("transformer_blocks."):
        return f"{_PLAIN[stem]}.{kind}"
    _, number, rest = stem.split(".", 2)
    return f"joint_blocks.{number}.{_OF_A_BLOCK[rest]}.{kind}"
