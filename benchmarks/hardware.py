"""`python -m benchmarks.hardware`: which settings of SD3.5-Large fit which GPU, written into docs/HARDWARE.md.

Arithmetic, not a measurement.

Weights: the published configurations are built without storage and their parameters are counted, by the very functions
that cast them. What a step needs beside the weights: the models are run on tensors without storage (torch's
FakeTensorMode), and the bytes that live at once are added up.
"""

from __future__ import annotations

import collections
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from benchmarks.wiring import SD35_CONTROLNET, SD35_LARGE, SD35_VAE

DOCUMENT = Path(__file__).parents[1] / "docs" / "HARDWARE.md"
BEGIN, END = "<!-- written by `python -m benchmarks.hardware` -->\n", "<!-- end of tables -->"
CARDS_GB = (24, 48, 80)
RESERVE = 0.1  # of a card: CUDA's context, libraries, fragments
GB = 10**9  # as cards are sold; a card of 24 GB has somewhat more than 24e9 bytes
NF4 = 0.5 + 4 / 64  # bytes a weight: 4 bits, and a float32 scale for 64 of them
TEXT_TOKENS = 333
SIZE_PX = 1024


class Living(TorchDispatchMode):
    """Bytes of the tensors that live, made since it was entered; `peak` is the most at once."""

    def __init__(self) -> None:
        super().__init__()
        self._names: collections.Counter[int] = collections.Counter()
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **kwargs or {})
        for tensor in tree_iter(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if not self._names[key]:
                    self.now += size
                    self.peak = max(self.peak, self.now)
                self._names[key] += 1
                weakref.finalize(tensor, self._gone, key, size)
        return out

    def _gone(self, key: int, size: int) -> None:
        self._names[key] -= 1
        if not self._names[key]:
            del self._names[key]
            self.now -= size


def peak_bytes(run: Callable[[], Any]) -> int:
    """The most that tensors made by `run` take at once; its result counts, weights that were there before do not."""
    living = Living()
    with torch.no_grad(), living:
        run()
    return living.peak


def num_bytes(model: Any, linear: float = 0.0) -> float:
    """Of the parameters as they are stored; `linear` bytes for a weight of a linear layer instead, if given."""
    total = 0.0
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            each = (
                linear if linear and isinstance(module, torch.nn.Linear) and name == "weight" else weight.element_size()
            )
            total += weight.numel() * each
        total += sum(buffer.numel() * buffer.element_size() for buffer in module.buffers(recurse=False))
    return total


def denoisers() -> dict[str, Any]:
    """The transformer, a ControlNet and the VAE in bfloat16, wherever tensors are made just now."""
    from diffusers import AutoencoderKL, SD3ControlNetModel, SD3Transformer2DModel

    torch.set_default_dtype(torch.bfloat16)
    try:
        return {
            "transformer": SD3Transformer2DModel(**SD35_LARGE),
            "controlnet": SD3ControlNetModel(**SD35_CONTROLNET),
            "vae": AutoencoderKL(**SD35_VAE),
        }
    finally:
        torch.set_default_dtype(torch.float32)


def text_encoders() -> dict[str, float]:
    """Parameters of the three text encoders: published configurations of CLIP-L, CLIP-bigG and T5-XXL's encoder."""
    from accelerate import init_empty_weights
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

    clip_l = CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768
    )
    big = {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "projection_dim": 1280,
    }
    t5 = T5Config(
        vocab_size=32128,
        d_model=4096,
        d_kv=64,
        d_ff=10240,
        num_layers=24,
        num_heads=64,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    with init_empty_weights():
        models = {
            "CLIP-L": CLIPTextModelWithProjection(clip_l),
            "CLIP-bigG": CLIPTextModelWithProjection(CLIPTextConfig(**big)),
            "T5-XXL": T5EncoderModel(t5),
        }
    return {name: sum(weight.numel() for weight in model.parameters()) for name, model in models.items()}


def facts() -> dict[str, float]:
    """Bytes of every part, by a name."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    found: dict[str, float] = {f"{name}, bf16": 2 * count for name, count in text_encoders().items()}
    with FakeTensorMode():
        models = denoisers()
        latents = torch.zeros(2, 16, SIZE_PX // 8, SIZE_PX // 8, dtype=torch.bfloat16)
        text = torch.zeros(2, TEXT_TOKENS, 4096, dtype=torch.bfloat16)
        pooled, time = torch.zeros(2, 2048, dtype=torch.bfloat16), torch.zeros(2)

        def denoise() -> Any:
            return models["transformer"](latents, text, pooled, time, return_dict=False)

        def control() -> Any:  # the positions are the transformer's
            tokens = models["transformer"].pos_embed(latents)
            return models["controlnet"](tokens, latents, 1.0, None, pooled, time, return_dict=False)

        found["a step"] = peak_bytes(denoise)
        found["a step, ControlNet"] = peak_bytes(lambda: (control(), denoise()))
        found["decoding"] = peak_bytes(lambda: models["vae"].decode(latents[:1], return_dict=False))
        for name, model in models.items():
            found[f"{name}, bf16"] = num_bytes(model)
        # two tensors of (rows, tokens, width) in bfloat16
        found["step cache"] = 2 * 2 * (SIZE_PX // 16) ** 2 * 2432 * 2
        for name in ("transformer", "controlnet"):
            found[f"{name}, int8"] = num_bytes(models[name], 1.0)
            found[f"{name}, nf4"] = num_bytes(models[name], NF4)
            found[f"largest layer, {name}"] = max(num_bytes(block) for block in models[name].transformer_blocks)
    with torch.device("meta"):
        models = denoisers()
    for name in ("transformer", "controlnet"):
        models[name].enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16)
        found[f"{name}, fp8"] = num_bytes(models[name])
    return found


def settings(found: dict[str, float]) -> Iterator[tuple[str, float, float]]:
    """(setting, bytes without a ControlNet, bytes with one) while images are made."""
    step, controlled, decode, vae = found["a step"], found["a step, ControlNet"], found["decoding"], found["vae, bf16"]
    for name, kind, net in (
        ("nothing set", "bf16", "bf16"),
        ("`quantise: fp8`", "fp8", "fp8"),
        ("`quantise: bnb-nf4`", "nf4", "bf16"),
    ):
        denoiser, control = found[f"transformer, {kind}"], found[f"controlnet, {net}"]
        yield name, denoiser + vae + max(step, decode), denoiser + control + vae + max(controlled, decode)
        if name == "nothing set":
            int8 = found["transformer, int8"]
            yield (
                "`quantise: torchao-int8`, `bnb-int8`",
                int8 + vae + max(step, decode),
                int8 + control + vae + max(controlled, decode),
            )
        both = "`offload: model`" if name == "nothing set" else f"{name}, `offload: model`"
        yield both, max(denoiser + step, vae + decode), max(denoiser + control + controlled, vae + control + decode)
    layer = max(found["largest layer, transformer"], found["largest layer, controlnet"])
    yield "`offload: sequential`", max(layer + step, vae + decode), max(layer + controlled, vae + decode)


def tables(found: dict[str, float]) -> str:
    """Both tables as Markdown."""
    lines = [
        "",
        "| part | GB |",
        "|---|---|",
        *(f"| {name} | {size / GB:.2f} |" for name, size in sorted(found.items())),
        "",
    ]
    cards = " | ".join(f"{card} GB" for card in CARDS_GB)
    lines += [f"| `execution` | GB | {cards} | GB with ControlNet | {cards} |", "|---" * (3 + 2 * len(CARDS_GB)) + "|"]
    for name, alone, controlled in settings(found):
        cells = [
            f"{size / GB:.1f} | " + " | ".join(_verdict(size, card) for card in CARDS_GB)
            for size in (alone, controlled)
        ]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    return "\n".join([*lines, "", ""])


def _verdict(size: float, card_gb: float) -> str:
    return "fits" if size <= (1 - RESERVE) * card_gb * GB else "no"


if __name__ == "__main__":
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    DOCUMENT.write_text(before + BEGIN + tables(facts()) + END + rest.partition(END)[2], encoding="utf-8")
