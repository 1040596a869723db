"""Coarse masks from the denoiser's own attention: where the image looks at the word for its class.

An SD3-type transformer lets image and text tokens attend to each other in every block (Esser et al., ICML 2024).
Attention to the word for a class marks the class in the image (DAAM, Tang et al., ACL 2023, for cross attention). Here
the image's VAE latent is noised to a middle timestep and goes through the transformer once; no image is generated.

    share(q) = mean over layers and heads of  sum_{k in class} exp(q.k / sqrt(d)) / sum_{k in text} exp(q.k / sqrt(d))

So the class tokens are weighed against all other text tokens, at every image token q. The map is as coarse as the
transformer's tokens (16 px with SD3.5, 8 px with the minis); SABR is there for the edges. A class that an image does
not show still has pixels that look at its word most: APF frees them if their features say otherwise.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from synthgen.backends import Cost, Licence
from synthgen.errors import ModelError
from synthgen.images import IGNORE
from synthgen.labels import Label, read_label_space
from synthgen.models import Proposal, ProposalRequest, Prototypes, SupportShot, TellsScores, TextEmbedding
from synthgen.models.cosine_maps import resize_bilinear
from synthgen.models.costs import attention_cost
from synthgen.models.devices import torch_device, torch_dtype
from synthgen.models.licences import sd3_licences
from synthgen.models.provenance import pinned_revision
from synthgen.models.text_encoders import sd3 as text_encoder
from synthgen.models.weights import resolve
from synthgen.models.whole_networks import load_network

TIMESTEPS = 1000  # SD3's denoisers are told sigma x 1000
_OTSU_BINS = 64


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    space: str = Field(description="label space whose class names are looked for in prompts: the same as labels.space")
    model: str = Field("mini/objects", description="an SD3-type model: Hub id, local folder or mini/<name>")
    revision: str = Field("", description="Hub revision; empty = main")
    template: str = Field(
        "a photo of a {}.",
        description="prompt for a class that the image's own prompt does not name; {} is the class [ours]",
    )
    timestep_fraction: float = Field(
        0.4,
        gt=0,
        lt=1,
        description="sigma of the noised latent, 0 = no noise, 1 = noise alone [ours: 0.2 to 0.6 are alike on "
        "drawn scenes]",
    )
    layers: tuple[int, ...] = Field(
        (),
        description="blocks whose attention is averaged, from 0; empty = the later half [ours: IoU 0.55 against "
        "0.53 for all on drawn scenes]",
    )
    threshold: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="of the share, scaled to 0..1 per image; 0 = Otsu's of each image [ours: IoU 0.55 against "
        "0.54 at 0.4]",
    )
    unsure: float = Field(
        0.0,
        ge=0,
        le=1,
        description="a pixel whose scaled share is this near to the threshold stays 255, for APR to label [ours]",
    )
    longest_side_px: int = Field(
        0, ge=0, le=4096, description="of the image that the model sees; 0 = its own, if the model has positions for it"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="of the noise, which is the same for all images of a size")
    t5: bool = Field(True, description="use the T5 encoder if the model has one")
    max_sequence_length: int = Field(
        -1, ge=-1, le=512, description="T5 tokens; -1 = what the model folder says, else 256"
    )

    @field_validator("template")
    @classmethod
    def _one_gap(cls, template: str) -> str:
        if "{}" not in template:
            raise ValueError("the template needs a {} for the class name")
        return template


def build(options: Options, execution: Any) -> AttentionProposer:
    """Load the text encoders, the VAE and the transformer's blocks up to the last one that is looked at."""
    return AttentionProposer(options, execution)


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost | None:
    """One pass of the denoiser, and of the text encoders."""
    return attention_cost(options, size, execution)


def licences(options: Options) -> dict[str, Licence]:
    """That of the model's family."""
    return sd3_licences(options.model)


class AttentionProposer(TellsScores):
    """One forward of the transformer an image, and one more for each candidate class that its prompt does not name.

    A pixel takes the candidate of the highest scaled share among those above their threshold; else the background, or
    255 where there is none.
    """

    def __init__(self, options: Options, execution: Any) -> None:
        import torch
        from diffusers import AutoencoderKL, SD3Transformer2DModel

        place = resolve(options.model)
        revision = pinned_revision(options.model, options.revision)
        self._torch, self._options = torch, options
        self._device = torch_device(execution)
        self._dtype = torch_dtype(execution, self._device)
        self._vae = load_network(AutoencoderKL, options.model, place, "vae", self._dtype, revision)
        transformer = load_network(SD3Transformer2DModel, options.model, place, "transformer", self._dtype, revision)
        depth = len(transformer.transformer_blocks)
        layers = options.layers or tuple(range(depth // 2, depth))
        if not all(0 <= layer < depth for layer in layers):
            raise ModelError(f"proposer `attention`: layers {list(layers)}: {options.model} has blocks 0..{depth - 1}")
        # Blocks after the last one that is looked at change nothing.
        transformer.transformer_blocks = transformer.transformer_blocks[: max(layers) + 1]
        self._watched = [_Watched(transformer.transformer_blocks[layer].attn) for layer in sorted(set(layers))]
        self._transformer = transformer.eval().requires_grad_(False).to(self._device)
        self._vae = self._vae.eval().requires_grad_(False).to(self._device)
        scale = 2 ** (len(self._vae.config.block_out_channels) - 1)
        self._token_px = scale * transformer.config.patch_size
        self._most_px = self._token_px * transformer.config.pos_embed_max_size
        self._text = text_encoder.build(
            text_encoder.Options(
                model=options.model,
                revision=options.revision,
                t5=options.t5,
                max_sequence_length=options.max_sequence_length,
            ),
            execution,
        )
        self._encode = functools.lru_cache(maxsize=256)(self._encode_prompt)
        self._space = read_label_space(options.space)

    def prepare(self, shots: Sequence[SupportShot], prototypes: Prototypes, background: int | None) -> None:
        """Nothing to learn: the words are the classifier."""

    def propose_scored(self, requests: Sequence[ProposalRequest]) -> list[Proposal]:
        """The score is the class's scaled share; of the background, what the highest share leaves to 1 [ours]."""
        # One by one: rounding may follow the batch's size, and batch_size must not change a pixel.
        return [self._propose(request) for request in requests]

    def _propose(self, request: ProposalRequest) -> Proposal:
        wanted = [self._space.by_id(k) for k in request.candidates if k != self._space.background]
        background = self._space.background if self._space.background in request.candidates else IGNORE
        size = (request.image.shape[0], request.image.shape[1])
        mask, best, highest, unsure = (
            np.full(size, background, np.uint8),
            np.full(size, -np.inf, np.float32),
            np.zeros(size, np.float32),
            np.zeros(size, bool),
        )
        for class_id, share in self.shares(request.image, wanted, request.prompt).items():
            scaled = _scaled(resize_bilinear(share, size))
            threshold = self._options.threshold or otsu_threshold(scaled)
            above = (scaled > threshold) & (scaled > best)
            mask[above], best[above] = class_id, scaled[above]
            highest = np.maximum(highest, scaled)
            unsure |= abs(scaled - threshold) < self._options.unsure
        mask[unsure] = IGNORE
        score = np.where(best > -np.inf, best, 1 - highest)
        return Proposal(mask, np.where(mask == IGNORE, 0, score).astype(np.float32))

    def shares(self, image: np.ndarray, wanted: Sequence[Label], prompt: str) -> dict[int, np.ndarray]:
        """(h, w) float32 in [0, 1] for each wanted class id:

        the share of each image token's attention to text that the class's word gets.
        """
        spoken = {label.id: self._text.positions(prompt, _words(label)) for label in wanted} if prompt else {}
        named = {class_id: at for class_id, at in spoken.items() if at}
        latent = self._latent(image)
        found: dict[int, np.ndarray] = (
            dict(zip(named, self._look(latent, prompt, list(named.values())), strict=True)) if named else {}
        )
        for label in wanted:
            if label.id not in found:
                text = self._options.template.format(label.spoken)
                at = self._text.positions(text, (label.spoken,))
                if not at:
                    raise ModelError(
                        f"proposer `attention`: {self._options.model} cuts the prompt {text!r} before the class; "
                        "shorten the template"
                    )
                found[label.id] = self._look(latent, text, [at])[0]
        return {label.id: found[label.id] for label in wanted}

    def _latent(self, image: np.ndarray) -> Any:
        """(1, C, h, w): the noised latent of an image, resized to sides that are whole tokens."""
        from PIL import Image

        torch = self._torch
        height, width = image.shape[:2]
        factor = min(self._options.longest_side_px or max(height, width), self._most_px) / max(height, width)
        rows, columns = (
            min(self._most_px, max(1, round(side * factor / self._token_px)) * self._token_px)
            for side in (height, width)
        )
        resized = Image.fromarray(image).resize((columns, rows), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None].float() / 127.5 - 1
        config, sigma = self._vae.config, self._options.timestep_fraction
        with torch.inference_mode():
            raw = self._vae.encode(pixels.to(self._device, self._dtype)).latent_dist.mean
            latent = (raw.float() - (config.shift_factor or 0.0)) * config.scaling_factor
            noise = torch.randn(latent.shape, generator=torch.Generator("cpu").manual_seed(self._options.seed)).to(
                self._device
            )
            return ((1 - sigma) * latent + sigma * noise).to(self._dtype)

    def _look(self, latent: Any, prompt: str, tokens: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """The share map (h, w) of each group of text tokens, from one forward with this prompt."""
        torch = self._torch
        text = self._encode(prompt)
        for watched in self._watched:
            watched.tokens = tokens
        with torch.inference_mode():
            self._transformer(
                hidden_states=latent,
                encoder_hidden_states=torch.from_numpy(text.tokens)[None].to(self._device, self._dtype),
                pooled_projections=torch.from_numpy(text.pooled)[None].to(self._device, self._dtype),
                timestep=torch.tensor([self._options.timestep_fraction * TIMESTEPS], device=self._device),
                return_dict=False,
            )
            maps = torch.stack([watched.seen for watched in self._watched]).mean(dim=0).cpu().numpy()
        patch = self._transformer.config.patch_size
        return list(maps.reshape(len(tokens), latent.shape[2] // patch, latent.shape[3] // patch))

    def _encode_prompt(self, prompt: str) -> TextEmbedding:
        found: TextEmbedding = self._text.encode([prompt])[0]
        return found


class _Watched:
    """A block's attention processor that notes, of the image tokens' attention to text, the share of chosen tokens;

    the result stays as it is.
    """

    def __init__(self, attention: Any) -> None:
        self.tokens: Sequence[Sequence[int]] = ()
        self.seen: Any = None  # (groups, image tokens) float32
        self._inner = attention.processor
        attention.set_processor(self)

    def __call__(
        self, attn: Any, hidden_states: Any, encoder_hidden_states: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        import torch

        query = _heads(attn.to_q(hidden_states), attn.heads, attn.norm_q)
        key = _heads(attn.add_k_proj(encoder_hidden_states), attn.heads, attn.norm_added_k)
        # Against text tokens alone the image's own keys cancel out: the table is (heads, image tokens, text tokens),
        # not image tokens squared.
        weights = (query.float() @ key.float().transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(dim=-1)[0]
        self.seen = torch.stack([weights[..., list(group)].sum(dim=-1).mean(dim=0) for group in self.tokens])
        return self._inner(attn, hidden_states, encoder_hidden_states, *args, **kwargs)


def otsu_threshold(values: np.ndarray) -> float:
    """The value that splits `values` into two classes of the greatest variance between them, over 64 bins (Otsu 1979).

    Of equal values it is that value, so that none is above.
    """
    counts, edges = np.histogram(values, _OTSU_BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    low = np.cumsum(counts)[:-1]
    high = counts.sum() - low
    low_mean = np.cumsum(counts * centres)[:-1] / np.maximum(low, 1)
    high_mean = (np.sum(counts * centres) - np.cumsum(counts * centres)[:-1]) / np.maximum(high, 1)
    between = low * high * (low_mean - high_mean) ** 2.0
    return float(edges[1 + int(np.argmax(between))]) if between.any() else float(values.flat[0])


def _scaled(share: np.ndarray) -> np.ndarray:
    """To 0..1 within the image; all 0 where the share is the same everywhere."""
    low, high = share.min(), share.max()
    return (share - low) / (high - low) if high > low else np.zeros_like(share)


def _heads(states: Any, heads: int, norm: Any) -> Any:
    """(1, N, D) -> (1, heads, N, D / heads), normalised where the model does so."""
    split = states.view(states.shape[0], -1, heads, states.shape[-1] // heads).transpose(1, 2)
    return split if norm is None else norm(split)


def _words(label: Label) -> tuple[str, ...]:
    return tuple(dict.fromkeys((label.spoken, *label.synonyms, label.name)))
