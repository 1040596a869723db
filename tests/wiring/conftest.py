"""Model folders of the full-size configurations: real widths, few layers, random weights in float16.

The configurations are those that the models publish. Cut are depth, T5's vocabulary, and the table of positions (192 x
192 at this width takes seconds and gigabytes to compute).
"""

from __future__ import annotations

import ctypes
import gc
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import init_empty_weights

CLIP_VOCABULARY = 49408
MODEL_INDEX = {
    "_class_name": "StableDiffusion3Pipeline",
    "_diffusers_version": "0.30.3.dev0",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "text_encoder_3": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
    "tokenizer_3": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "SD3Transformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
"""As published."""
T5_WORDS = ("a", "red", "car", "on", "sand", "horse", "grass")


def random_weights(construct: Callable[[], torch.nn.Module], seed: int) -> Any:
    """A model in float16 with weights of a plausible scale.

    Constructed without initialisation, which would take most of the tests' time.
    """
    with init_empty_weights(include_buffers=False):
        model = construct()
    pool = torch.randn(2**22, generator=torch.Generator().manual_seed(seed))
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight.ndim > 1:
                scaled = (pool * weight[0].numel() ** -0.5).half()
                value = torch.cat(
                    [*[scaled] * (weight.numel() // len(scaled)), scaled[: weight.numel() % len(scaled)]]
                ).reshape(weight.shape)
            else:
                # a norm is 1, a bias is 0
                value = torch.full(weight.shape, float(name == "weight"), dtype=torch.float16)
            setattr(module, name, torch.nn.Parameter(value, requires_grad=False))
    return model.half().eval()


@pytest.fixture(scope="session")
def give_memory_back() -> Callable[[], None]:
    """Frees what is no longer used, to the system:

    models of this size would else lie in memory beside the ones before them.
    """
    c_library = ctypes.CDLL(None)

    def now() -> None:
        gc.collect()  # pipelines hold themselves in circles
        # glibc keeps freed blocks, and `make test` tells it to keep large ones too
        if hasattr(c_library, "malloc_trim"):
            c_library.malloc_trim(0)

    return now


@pytest.fixture(autouse=True)
def _afterwards(give_memory_back: Callable[[], None]) -> Iterator[None]:
    yield
    give_memory_back()


@pytest.fixture(scope="module")
def sd35_large(tmp_path_factory: pytest.TempPathFactory, give_memory_back: Callable[[], None]) -> Iterator[Path]:
    """SD3.5-Large with all three text encoders, and `controlnet/` of Stability's own 8B kind.

    Removed when the tests have ended.
    """
    folder = tmp_path_factory.mktemp("sd35_large")
    _write_pipeline(folder)
    _write_controlnet(folder / "controlnet")
    give_memory_back()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def sd35_medium(
    sd35_large: Path, tmp_path_factory: pytest.TempPathFactory, give_memory_back: Callable[[], None]
) -> Iterator[Path]:
    """SD3.5-Medium: its own denoiser, with a second attention in its first blocks, beside the family's other parts."""
    from diffusers import SD3Transformer2DModel

    folder = tmp_path_factory.mktemp("sd35_medium")
    for part in sd35_large.iterdir():
        if part.name not in ("transformer", "controlnet"):
            (folder / part.name).symlink_to(part)
    config = {
        "sample_size": 128,
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": 3,
        "attention_head_dim": 64,
        "num_attention_heads": 24,
        "joint_attention_dim": 4096,
        "caption_projection_dim": 1536,
        "pooled_projection_dim": 2048,
        "pos_embed_max_size": 48,
        "dual_attention_layers": (0, 1),
        "qk_norm": "rms_norm",
    }
    random_weights(lambda: SD3Transformer2DModel(**config), 7).save_pretrained(folder / "transformer")
    give_memory_back()
    yield folder


@pytest.fixture(scope="module")
def sam_vit_h(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkpoint of the official name and keys: two layers, one with windows and one global."""
    import segment_anything
    from segment_anything.build_sam import _build_sam

    def shallow_vit_h() -> torch.nn.Module:
        return _build_sam(
            encoder_embed_dim=1280, encoder_depth=2, encoder_num_heads=16, encoder_global_attn_indexes=[1]
        )

    folder = tmp_path_factory.mktemp("sam")
    path = folder / "sam_vit_h_4b8939.pth"
    torch.save(random_weights(shallow_vit_h, 6).state_dict(), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(segment_anything.sam_model_registry, "vit_h", shallow_vit_h)
        yield path
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def clip_vit_l_14(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """open_clip's own ViT-L-14 with two layers a tower."""
    import open_clip
    from safetensors.torch import save_file

    config = open_clip.get_model_config("ViT-L-14")
    for tower in ("vision_cfg", "text_cfg"):
        config[tower] = {**config[tower], "layers": 2}
    clip = random_weights(lambda: open_clip.model.CLIP(**config), 4)
    folder = tmp_path_factory.mktemp("clip")
    save_file(
        {name: value.contiguous() for name, value in clip.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    preprocess = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    yield folder
    shutil.rmtree(folder)


def _write_pipeline(folder: Path) -> None:
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

    from benchmarks.wiring import SD35_LARGE, SD35_VAE

    clip = {
        "vocab_size": CLIP_VOCABULARY,
        "max_position_embeddings": 77,
        "num_hidden_layers": 2,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }
    clip_l = CLIPTextConfig(
        **clip,
        hidden_size=768,
        intermediate_size=3072,
        num_attention_heads=12,
        projection_dim=768,
        hidden_act="quick_gelu",
    )
    clip_g = CLIPTextConfig(
        **clip, hidden_size=1280, intermediate_size=5120, num_attention_heads=20, projection_dim=1280, hidden_act="gelu"
    )
    t5_xxl = T5Config(
        d_model=4096,
        d_ff=10240,
        d_kv=64,
        num_heads=64,
        num_layers=1,
        feed_forward_proj="gated-gelu",
        vocab_size=256,
        tie_word_embeddings=False,
        is_encoder_decoder=False,
        use_cache=False,
    )
    shallow = {"num_layers": 2, "pos_embed_max_size": 48}
    # One part after the other: all of them at once would take twice the memory.
    models: dict[str, Callable[[], torch.nn.Module]] = {
        "transformer": lambda: SD3Transformer2DModel(**SD35_LARGE | shallow),
        "vae": lambda: AutoencoderKL(**SD35_VAE),
        "text_encoder": lambda: CLIPTextModelWithProjection(clip_l),
        "text_encoder_2": lambda: CLIPTextModelWithProjection(clip_g),
        "text_encoder_3": lambda: T5EncoderModel(t5_xxl),
    }
    for seed, (name, construct) in enumerate(models.items()):
        random_weights(construct, seed).save_pretrained(folder / name)
    _clip_tokenizer("<|endoftext|>").save_pretrained(folder / "tokenizer")
    _clip_tokenizer("!").save_pretrained(folder / "tokenizer_2")
    _t5_tokenizer().save_pretrained(folder / "tokenizer_3")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(MODEL_INDEX))


def _write_controlnet(folder: Path) -> None:
    """As diffusers converts Stability's ControlNets for SD3.5-Large:

    no text stream, positions taken from the transformer.

    The layers that training starts from zero are random too: at zero a ControlNet changes nothing.
    """
    from diffusers import SD3ControlNetModel

    config = {
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": 1,
        "attention_head_dim": 64,
        "num_attention_heads": 38,
        "joint_attention_dim": None,
        "caption_projection_dim": 2048,
        "pooled_projection_dim": 2048,
        "pos_embed_max_size": None,
        "pos_embed_type": None,
        "use_pos_embed": False,
        "force_zeros_for_pooled_projection": False,
    }
    random_weights(lambda: SD3ControlNetModel(**config), 5).save_pretrained(folder)


def _clip_tokenizer(pad_token: str) -> Any:
    """CLIP's whole vocabulary, from the copy that open_clip brings."""
    import gzip

    import open_clip
    from open_clip.tokenizer import bytes_to_unicode
    from transformers import CLIPTokenizer

    with gzip.open(open_clip.tokenizer.default_bpe(), "rt", encoding="utf-8") as source:
        merges = [tuple(line.split()) for line in source.read().split("\n")[1 : 1 + CLIP_VOCABULARY - 512 - 2]]
    letters = list(bytes_to_unicode().values())
    words = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *("".join(pair) for pair in merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    return CLIPTokenizer(
        vocab={word: number for number, word in enumerate(words)},
        merges=merges,
        model_max_length=77,
        pad_token=pad_token,
    )


def _t5_tokenizer() -> Any:
    """A small Unigram vocabulary with T5's special tokens at their places."""
    from transformers import T5Tokenizer

    letters = [(letter, -8.0) for letter in "abcdefghijklmnopqrstuvwxyz,."]
    words = [(f"▁{word}", -4.0) for word in T5_WORDS]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -6.0), *words, *letters]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)
