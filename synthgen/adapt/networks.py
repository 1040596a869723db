"""The networks of an adaptation: a base of the SD3 kind, its low-rank change, and a ControlNet that starts as its
copy.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from synthgen.adapt_settings import ControlNet, Lora
from synthgen.errors import ModelError, RecipeError
from synthgen.files import write_bytes
from synthgen.models.provenance import pinned_revision, revision_of
from synthgen.models.sd3_pipeline import LORA_FILE
from synthgen.models.weights import loading, resolve
from synthgen.models.whole_networks import load_network

PIPELINE = "StableDiffusion3Pipeline"
DENOISER = "SD3Transformer2DModel"
_PARTS = ("pos_embed", "time_text_embed", "context_embedder", "transformer_blocks")  # what a ControlNet copies


@dataclasses.dataclass(frozen=True, slots=True)
class Base:
    """The model that is adapted, as its configurations say; no weight of it is loaded."""

    model: str
    place: Path | str
    revision: str  # commit on the Hub, or the digest of a local folder
    at: dict[str, str]  # `revision=` for the loaders
    denoiser: Mapping[str, Any]  # config of the transformer
    vae: Mapping[str, Any]
    shift: float  # of the scheduler's noise levels

    @property
    def layers(self) -> int:
        return int(self.denoiser["num_layers"])

    @property
    def width(self) -> int:
        return int(self.denoiser["num_attention_heads"]) * int(self.denoiser["attention_head_dim"])

    @property
    def token_px(self) -> int:
        """Side of the square of pixels that an image token stands for."""
        return int(self.denoiser["patch_size"]) * self.latent_px

    @property
    def latent_px(self) -> int:
        return int(2 ** (len(self.vae["block_out_channels"]) - 1))


def read_base(model: str, revision: str = "") -> Base:
    """Read the configurations. Raises ModelError in one line if it is not of the SD3 kind, or not to be had."""
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    place, at = resolve(model), pinned_revision(model, revision)
    with loading(model):
        index = StableDiffusion3Pipeline.load_config(place, **at)
        denoiser = _config(SD3Transformer2DModel, place, "transformer", at)
        vae = _config(AutoencoderKL, place, "vae", at)
        scheduler = _config(FlowMatchEulerDiscreteScheduler, place, "scheduler", at)
    kind, part = index.get("_class_name"), denoiser.get("_class_name")
    if kind != PIPELINE or part != DENOISER:
        raise ModelError(
            f"base {model!r}: is a {kind} with a {part}; synthgen adapt needs a model of the SD3 kind ({PIPELINE}), "
            "for example stabilityai/stable-diffusion-3.5-medium"
        )
    for name in ("scaling_factor", "shift_factor"):
        if not isinstance(vae.get(name), (int, float)):
            raise ModelError(f"base {model!r}: its VAE has no {name}, without which its latents have no scale")
    return Base(model, place, revision_of(model, revision), at, denoiser, vae, float(scheduler.get("shift", 1.0)))


def _config(kind: Any, place: Path | str, subfolder: str, at: dict[str, str]) -> Mapping[str, Any]:
    config: Mapping[str, Any] = kind.load_config(place, subfolder=subfolder, **at)
    return config


def require_size(base: Base, size_px: tuple[int, int]) -> None:
    """Raise RecipeError unless `size_px` (height, width) is what the base can make."""
    step, height, width = base.token_px, *size_px
    if height % step or width % step:
        raise RecipeError(
            f"render.height_px x width_px = {height} x {width}: {base.model} makes multiples of {step} px"
        )
    most = step * int(base.denoiser["pos_embed_max_size"])
    if max(size_px) > most:
        raise RecipeError(
            f"render.height_px x width_px = {height} x {width}: {base.model} has positions for {most} px a side at the "
            "most"
        )


def control_layers(base: Base, settings: ControlNet) -> int:
    """Blocks of the ControlNet. Raises RecipeError unless there are fewer than the base has: its last block drops the
    text and cannot be copied.
    """
    layers = settings.layers or max(1, base.layers // 2)
    if layers >= base.layers:
        raise RecipeError(
            f"adapt.controlnet.layers = {layers}: {base.model} has {base.layers} blocks, of which all but the last can "
            f"be copied; give 1 to {base.layers - 1}, or 0 for half of them"
        )
    return layers


def control_config(base: Base, settings: ControlNet, extra_channels: int) -> dict[str, Any]:
    """Of the ControlNet: the base's own, fewer layers, and the flags with which the stock pipeline feeds it what the
    training did. diffusers' `from_transformer` leaves them at other values, and writes into the base's configuration.
    """
    import inspect

    from diffusers import SD3ControlNetModel

    accepted = inspect.signature(SD3ControlNetModel.__init__).parameters.keys() - {"self"}
    layers = control_layers(base, settings)
    kept = {name: value for name, value in base.denoiser.items() if name in accepted}
    return kept | {
        "num_layers": layers,
        "dual_attention_layers": tuple(i for i in base.denoiser.get("dual_attention_layers", ()) if i < layers),
        "extra_conditioning_channels": extra_channels,
        "force_zeros_for_pooled_projection": False,
    }


def load_denoiser(base: Base, dtype: Any) -> Any:
    """The base's SD3Transformer2DModel in `dtype`, frozen."""
    from diffusers import SD3Transformer2DModel

    denoiser = load_network(SD3Transformer2DModel, base.model, base.place, "transformer", dtype, base.at)
    return denoiser.requires_grad_(False)


def load_vae(base: Base, device: Any) -> Any:
    """The base's AutoencoderKL in float32, frozen: float16 overflows in SD3's."""
    import torch
    from diffusers import AutoencoderKL

    vae = load_network(AutoencoderKL, base.model, base.place, "vae", torch.float32, base.at)
    return vae.requires_grad_(False).eval().to(device)


def add_lora(denoiser: Any, settings: Lora) -> None:
    """Add the low-rank change, in float32: the only weights that then ask for gradients."""
    import torch
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    denoiser.add_adapter(
        LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            init_lora_weights="gaussian",
            target_modules=list(settings.targets),
        )
    )
    cast_training_params([denoiser], dtype=torch.float32)


def save_lora(denoiser: Any, folder: Path) -> None:
    """`pytorch_lora_weights.safetensors` as diffusers' pipelines load it."""
    from diffusers import StableDiffusion3Pipeline
    from diffusers.training_utils import _collate_lora_metadata
    from peft.utils import get_peft_model_state_dict

    StableDiffusion3Pipeline.save_lora_weights(
        folder,
        transformer_lora_layers=get_peft_model_state_dict(denoiser),
        **_collate_lora_metadata({"transformer": denoiser}),
    )
    _in_one_order(folder / LORA_FILE)


def _in_one_order(path: Path) -> None:
    """Rewrite the header of a safetensors file with its metadata sorted: the library writes a hash map as it comes."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    words = header.pop("__metadata__", {})
    for name, text in words.items():
        with contextlib.suppress(ValueError):
            words[name] = json.dumps(_sorted(json.loads(text)), sort_keys=True)
    text = json.dumps({"__metadata__": dict(sorted(words.items())), **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :], path)


def _sorted(value: Any) -> Any:
    """Lists of texts, which were sets, in order."""
    if isinstance(value, dict):
        return {name: _sorted(part) for name, part in value.items()}
    return sorted(value) if isinstance(value, list) and all(isinstance(part, str) for part in value) else value


def merge_lora(denoiser: Any, folder: Path) -> None:
    """Merge a saved low-rank change into the weights, so that a training beside it pays nothing for it."""
    with _quiet_peft():
        denoiser.load_lora_adapter(folder, prefix="transformer", weight_name=LORA_FILE, use_safetensors=True)
        denoiser.fuse_lora()
        denoiser.unload_lora()
    denoiser.requires_grad_(False)


def new_controlnet(config: Mapping[str, Any], denoiser: Any, settings: ControlNet) -> Any:
    """An SD3ControlNetModel in float32 that starts as a copy of the denoiser's first blocks and adds nothing."""
    from diffusers import SD3ControlNetModel

    net = SD3ControlNetModel(**config)
    weights = {name: value.float() for name, value in denoiser.state_dict().items() if name.split(".")[0] in _PARTS}
    own = net.state_dict()
    strange = net.load_state_dict({name: weights[name] for name in own if name in weights}, strict=False)
    lacking = [name for name in strange.missing_keys if not name.startswith(("controlnet_blocks.", "pos_embed_input."))]
    if lacking:
        raise ModelError(f"the base's denoiser lacks {lacking[0]}, which its ControlNet copies")
    if settings.lora_rank:
        _only_low_rank(net, settings.lora_rank)
    return net


def whole_controlnet(net: Any, settings: ControlNet) -> None:
    """Merge what was trained as a low-rank change, so that the network is one that every pipeline loads."""
    if settings.lora_rank:
        with _quiet_peft():
            net.fuse_lora()
            net.unload_lora()


def _only_low_rank(net: Any, rank: int) -> None:
    """Freeze all but low-rank changes of the attention and the projections that carry the condition in and out."""
    from peft import LoraConfig

    net.requires_grad_(False)
    targets = ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]
    net.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=targets))
    for part in (net.controlnet_blocks, net.pos_embed_input):
        part.requires_grad_(True)


@contextlib.contextmanager
def _quiet_peft() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*No LoRA keys associated")
        yield
