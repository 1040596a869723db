"""What the denoiser's and the ControlNet's training share:

the models, the rectified-flow objective, latents and tokens.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, SD3ControlNetModel, SD3Transformer2DModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from synthgen.minis.train.scenes import Scenes
from synthgen.minis.train.vae import encode

# ids of CLIP's own byte-pair vocabulary, cut after its first merges: ids agree with CLIP's below the cut
VOCABULARY = 8192
WIDTH, LAYERS, HEADS = 192, 6, 6
TEXT_WIDTH = 128


@dataclasses.dataclass(frozen=True, slots=True)
class Latents:
    """A world made ready for training."""

    images: torch.Tensor  # (N, 4, h, w) float16, as the denoiser sees them: (raw - shift) * scaling
    # (N, 4, h, w) float16 of the painted label maps, as the ControlNet sees them: raw * scaling
    maps: torch.Tensor | None
    tokens: torch.Tensor  # (N, T) int16


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


def tokenize(tokens: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """(N, T) int64 ids, padded and cut to the tokenizer's length."""
    return tokens(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids


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
    return SD3Transformer2DModel(**_transformer_config(LAYERS))


def controlnet(num_layers: int) -> SD3ControlNetModel:
    """A ControlNet of the same width. Its output projections start small rather than at zero:

    it is trained together with the denoiser.
    """
    config = _transformer_config(num_layers) | {"extra_conditioning_channels": 0}
    config.pop("qk_norm")
    net = SD3ControlNetModel(**config, qk_norm="rms_norm")
    with torch.no_grad():
        net.pos_embed_input.proj.weight.normal_(std=0.02)
        for block in net.controlnet_blocks:
            block.weight.normal_(std=0.02)
    return net


def _transformer_config(num_layers: int) -> dict[str, Any]:
    return {
        "sample_size": 16,
        "patch_size": 2,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": num_layers,
        "attention_head_dim": WIDTH // HEADS,
        "num_attention_heads": HEADS,
        "joint_attention_dim": 2 * TEXT_WIDTH,
        "caption_projection_dim": WIDTH,
        "pooled_projection_dim": 2 * TEXT_WIDTH,
        "pos_embed_max_size": 24,
        "qk_norm": "rms_norm",
    }


class Flow(torch.nn.Module):
    """SD3's objective: predict noise - data at x = (1 - sigma) data + sigma noise (Esser et al. 2024, rectified flow).

    sigma is logit-normal in 85 % and uniform in 15 % of the samples; the caption is dropped (empty prompt) in 10 %.
    With a ControlNet, the first `controlled` share of a batch gets its residuals, so that the transformer alone stays a
    text-to-image model.
    """

    empty: torch.Tensor

    def __init__(self, length: int, control_layers: int = 0, controlled: float = 0.0) -> None:
        super().__init__()
        self.tokenizer = tokenizer(length)
        self.text_encoder, self.text_encoder_2 = text_encoder(length), text_encoder(length)
        self.transformer = transformer()
        self.controlnet = controlnet(control_layers) if control_layers else None
        self.controlled = controlled
        self.register_buffer("empty", tokenize(self.tokenizer, [""])[0], persistent=False)

    def encode_text(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, T) ids -> (N, T, 256) states and (N, 256) pooled, as StableDiffusion3Pipeline.encode_prompt builds them
        without T5.
        """
        first = self.text_encoder(tokens, output_hidden_states=True)
        second = self.text_encoder_2(tokens, output_hidden_states=True)
        states = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return states, torch.cat([first.text_embeds, second.text_embeds], dim=-1)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        device = self.empty.device
        data = batch["latents"].to(device).float()
        tokens = batch["tokens"].to(device).long()
        number = len(data)
        tokens = torch.where(torch.rand(number, 1, device=device) < 0.1, self.empty[None], tokens)
        sigma = torch.sigmoid(torch.randn(number, device=device))
        sigma = torch.where(torch.rand(number, device=device) < 0.15, torch.rand(number, device=device), sigma)
        noise = torch.randn_like(data)
        mixed = (1 - sigma)[:, None, None, None] * data + sigma[:, None, None, None] * noise
        states, pooled = self.encode_text(tokens)
        residuals = None
        cut = int(number * self.controlled)
        if self.controlnet is not None:
            parts = self.controlnet(
                hidden_states=mixed[:cut],
                controlnet_cond=batch["maps"][:cut].to(device).float(),
                conditioning_scale=1.0,
                encoder_hidden_states=states[:cut],
                pooled_projections=torch.zeros_like(pooled[:cut]),  # the pipeline's force_zeros_for_pooled_projection
                timestep=sigma[:cut] * 1000,
                return_dict=False,
            )[0]
            residuals = [torch.cat([part, part.new_zeros(number - cut, *part.shape[1:])]) for part in parts]
        predicted = self.transformer(
            hidden_states=mixed,
            encoder_hidden_states=states,
            pooled_projections=pooled,
            timestep=sigma * 1000,
            block_controlnet_hidden_states=residuals,
            return_dict=False,
        )[0]
        error = (predicted.float() - (noise - data)).square().mean(dim=(1, 2, 3))
        losses = {"loss": error.mean()}
        if self.controlnet is not None:
            losses |= {"controlled": error[:cut].mean().detach(), "free": error[cut:].mean().detach()}
        return losses


def latents_of(
    vae: AutoencoderKL, scenes: Scenes, tokens: CLIPTokenizer, cache: Path, palette: np.ndarray | None
) -> Latents:
    """Encode a world once;

    kept in `cache` under a name that follows from the VAE's weights, so another VAE never finds it.
    """
    print_ = hashlib.blake2b(digest_size=6)
    for weight in vae.state_dict().values():
        print_.update(weight.float().cpu().numpy().tobytes())
    scale, shift = vae.config.scaling_factor, vae.config.shift_factor
    height, width = scenes.images.shape[1:3]
    parts: list[torch.Tensor] = []
    for kind in ("images", "maps") if palette is not None else ("images",):
        path = cache / f"latents-{kind}-{height}x{width}-{len(scenes.images)}-{print_.hexdigest()}.pt"
        if not path.is_file():
            found = []
            for start in range(0, len(scenes.images), 128):
                part = slice(start, start + 128)
                pictures = scenes.images[part] if palette is None or kind == "images" else palette[scenes.masks[part]]
                raw = encode(vae, pictures)
                found.append(((raw - shift) * scale if kind == "images" else raw * scale).half())
            temporary = path.with_suffix(".tmp")
            torch.save(torch.cat(found), temporary)
            temporary.replace(path)
        parts.append(torch.load(path, weights_only=True))
    ids = torch.cat(
        [tokenize(tokens, list(scenes.captions[i : i + 4096])) for i in range(0, len(scenes.captions), 4096)]
    )
    return Latents(parts[0], parts[1] if len(parts) > 1 else None, ids.to(torch.int16))


def batches(latents: Latents) -> Any:
    """`batch_of(rng, size)` over a world."""

    def batch_of(rng: np.random.Generator, size: int) -> dict[str, torch.Tensor]:
        rows = torch.from_numpy(rng.integers(len(latents.images), size=size))
        batch = {"latents": latents.images[rows], "tokens": latents.tokens[rows]}
        if latents.maps is not None:
            batch["maps"] = latents.maps[rows]
        return batch

    return batch_of
