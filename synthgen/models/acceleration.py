"""What `execution.compile`, `.channels_last`, `.attention`, `.quantise` and `.offload` do to a diffusers pipeline of
the SD3 kind.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from synthgen.errors import ModelError, in_one_line

ATTENTION = {
    "flash": "flash", "flash3": "_flash_3", "sage": "sage", "xformers": "xformers", "flex": "flex",
    "cudnn": "_native_cudnn", "efficient": "_native_efficient", "math": "_native_math",
}  # fmt: skip
"""execution.attention -> diffusers' name of the kernel.

`auto` is torch's own choice and leaves diffusers' processor in place.
"""
CPU_ATTENTION = ("flex", "math")
QUANTISED = {"bnb-int8": "bitsandbytes", "bnb-nf4": "bitsandbytes", "torchao-int8": "torchao", "torchao-fp8": "torchao"}
"""execution.quantise -> the package that it needs. `fp8` needs nothing but diffusers."""


def quantisation(execution: Any, device: Any) -> Any:
    """The `quantization_config` with which diffusers loads the transformer;

    None for `none` and for `fp8`, which is done after loading.

    Raises ModelError in one line if the package is missing or the device is of the wrong kind.
    """
    kind = execution.quantise
    if kind not in QUANTISED:
        return None
    package = QUANTISED[kind]
    if importlib.util.find_spec(package) is None:
        raise ModelError(
            f"execution.quantise={kind} needs the package {package!r}, which is not installed (pip install "
            f"{package}); or use fp8"
        )
    if package == "bitsandbytes":
        if device.type != "cuda":
            raise ModelError(f"execution.quantise={kind} needs a CUDA GPU, this is {device.type}; use fp8 or none")
        from diffusers import BitsAndBytesConfig

        if kind == "bnb-int8":
            return BitsAndBytesConfig(load_in_8bit=True)
        from synthgen.models.devices import torch_dtype

        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch_dtype(execution, device)
        )
    from diffusers import TorchAoConfig

    torchao = importlib.import_module("torchao.quantization")
    return TorchAoConfig(torchao.Int8WeightOnlyConfig() if kind == "torchao-int8" else torchao.Float8WeightOnlyConfig())


def accelerate(pipeline: Any, execution: Any, device: Any, dtype: Any) -> None:
    """Apply the keys to a pipeline that lies on the CPU, without moving it. `fp8` stores the linear layers of
    transformer and ControlNet in 8 bits and computes in `dtype`; norms, embeddings of positions and the VAE keep
    theirs.

    Raises ModelError for an attention kernel that is not there.
    """
    import torch

    denoisers = [
        pipeline.transformer,
        *([pipeline.controlnet] if getattr(pipeline, "controlnet", None) is not None else []),
    ]
    if execution.attention != "auto":
        for model in denoisers:
            _attend(model, execution.attention, device)
    if execution.quantise == "fp8":
        for model in denoisers:
            model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)
    if execution.channels_last:
        pipeline.vae.to(memory_format=torch.channels_last)  # the only part with convolutions over pixels
    if execution.compile:
        for model in denoisers:
            for block in model.transformer_blocks:
                # one block's code serves all; the decoder runs once an image and would take longer to compile than it
                # saves
                block.compile()


def accelerate_pipeline(pipeline: Any, denoiser: Any, execution: Any, device: Any, dtype: Any) -> None:
    """The same keys for a pipeline of any family, by what diffusers gives every denoiser."""
    import torch

    if execution.attention != "auto":
        if device.type != "cuda" and execution.attention not in CPU_ATTENTION:
            raise ModelError(
                f"execution.attention={execution.attention} needs a CUDA GPU, this is {device.type}; use auto, "
                f"{' or '.join(CPU_ATTENTION)}"
            )
        try:
            denoiser.set_attention_backend(ATTENTION[execution.attention])
        except (AttributeError, RuntimeError, ImportError, ValueError) as error:
            raise ModelError(f"execution.attention={execution.attention}: {in_one_line(error)}; or use auto") from error
    if execution.quantise == "fp8":
        denoiser.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)
    if execution.channels_last:
        pipeline.vae.to(memory_format=torch.channels_last)
    if execution.compile:
        denoiser.compile()


def place(pipeline: Any, execution: Any, device: Any) -> None:
    """Onto the device, whole or by parts as `execution.offload` says; without a GPU there is nothing to offload."""
    if device.type != "cuda" or execution.offload == "none":
        pipeline.to(device)
    elif execution.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)


def _attend(model: Any, name: str, device: Any) -> None:
    """Have a model's joint attention call the kernel. diffusers' own `set_attention_backend` does not reach SD3 (0.42):

    its processor asks torch.
    """
    from diffusers.models import attention_dispatch

    if device.type != "cuda" and name not in CPU_ATTENTION:
        raise ModelError(
            f"execution.attention={name} needs a CUDA GPU, this is {device.type}; use auto, "
            f"{' or '.join(CPU_ATTENTION)}"
        )
    backend = attention_dispatch.AttentionBackendName(ATTENTION[name])
    try:
        attention_dispatch._check_attention_backend_requirements(backend)
    except (RuntimeError, ImportError) as error:
        raise ModelError(f"execution.attention={name}: {in_one_line(error)}; or use auto") from error
    model.set_attn_processor(JointAttention(backend))


class JointAttention:
    """SD3's joint attention of image and text tokens with a kernel of diffusers' dispatcher."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __call__(
        self,
        attn: Any,
        hidden_states: Any,
        encoder_hidden_states: Any = None,
        attention_mask: Any = None,
        **unused: Any,
    ) -> Any:
        """(B, T, D) image tokens and, where there are any, (B, S, D) text tokens; the same out."""
        import torch
        from diffusers.models.attention_dispatch import dispatch_attention_fn

        def heads(states: Any) -> Any:
            return states.unflatten(-1, (attn.heads, -1))

        def normed(norm: Any, states: Any) -> Any:
            return norm(states) if norm is not None else states

        query = normed(attn.norm_q, heads(attn.to_q(hidden_states)))
        key = normed(attn.norm_k, heads(attn.to_k(hidden_states)))
        value = heads(attn.to_v(hidden_states))
        if encoder_hidden_states is not None:
            query = torch.cat([query, normed(attn.norm_added_q, heads(attn.add_q_proj(encoder_hidden_states)))], 1)
            key = torch.cat([key, normed(attn.norm_added_k, heads(attn.add_k_proj(encoder_hidden_states)))], 1)
            value = torch.cat([value, heads(attn.add_v_proj(encoder_hidden_states))], 1)
        states = dispatch_attention_fn(query, key, value, backend=self._backend).flatten(2).to(query.dtype)
        image, text = states[:, : hidden_states.shape[1]], states[:, hidden_states.shape[1] :]
        image = attn.to_out[1](attn.to_out[0](image))
        if encoder_hidden_states is None:
            return image
        return image, text if attn.context_pre_only else attn.to_add_out(text)


def encode_without_noise(vae: Any) -> None:
    """Make the VAE's posterior its mean. The ControlNet pipeline samples the condition's latents with the process's own
    generator, so an image would depend on what was rendered before it; the minis' ControlNet has learned from means."""
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
    from diffusers.models.modeling_outputs import AutoencoderKLOutput

    encode = vae.encode

    def encode_mean(images: Any) -> AutoencoderKLOutput:
        return AutoencoderKLOutput(
            latent_dist=DiagonalGaussianDistribution(encode(images).latent_dist.parameters, deterministic=True)
        )

    vae.encode = encode_mean
