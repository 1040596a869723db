"""Text encoder `sd3`: the renderer's own.

CLIP-L and CLIP-bigG (and T5 where the folder has it), encoded by diffusers' SD3 pipeline.

`pooled` is CLIP-L's and CLIP-bigG's projected embedding side by side (768 + 1280 = 2048 for SD3.5), which is what the
prompt bank compares; `tokens` is what the denoiser attends to. So a prompt is encoded once, for the bank and for the
renderer.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from segkit.spelling import find_wordings
from synthgen.backends import Cost, Licence
from synthgen.english import wordings
from synthgen.errors import ModelError
from synthgen.models import TextEmbedding, Unread
from synthgen.models.context import read_length, token_counter
from synthgen.models.costs import text_encoders_cost
from synthgen.models.licences import sd3_licences
from synthgen.models.model_facts import num_t5_tokens
from synthgen.models.provenance import pinned_revision, revision_of
from synthgen.models.sd3_pipeline import sd3_index
from synthgen.models.weights import loading, resolve
from synthgen.models.whole_networks import load_network


class Options(BaseModel):
    """Which SD3-type model, and what of its text encoders."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = Field("stabilityai/stable-diffusion-3.5-large", description="Hub id, local folder or mini/<name>")
    revision: str = Field("", description="Hub revision; empty = main")
    variant: str = Field(
        "", description="of the weights' file names, as fp16; empty = plain ones, or the only variant that is there"
    )
    t5: bool = Field(
        True, description="use the T5 encoder if the model has one; without it SD3.5 takes zeros in its place"
    )
    max_sequence_length: int = Field(
        -1, ge=-1, le=512, description="T5 tokens; -1 = what the model folder says, else 256"
    )
    pooled: Literal["clip", "t5"] = Field(
        "clip", description="what the bank compares: the pooled CLIP vectors, or T5's states averaged"
    )


def build(options: Options, execution: Any) -> Sd3TextEncoder:
    """Load the text encoders and the transformer's configuration, but none of its weights."""
    return Sd3TextEncoder(options, execution)


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost | None:
    """One pass of all text encoders."""
    return text_encoders_cost(options, execution)


def parts(options: Options) -> tuple[str, ...]:
    """Of the model's folder, what is loaded here."""
    numbers = ("", "_2", "_3") if options.t5 else ("", "_2")
    return tuple(f"{part}{number}" for part in ("text_encoder", "tokenizer") for number in numbers)


def licences(options: Options) -> dict[str, Licence]:
    """That of the model's family."""
    return sd3_licences(options.model)


class Sd3TextEncoder:
    """Encodes one prompt at a time, so that the result cannot depend on what else is in a batch."""

    def __init__(self, options: Options, execution: Any) -> None:
        import torch
        from accelerate import init_empty_weights
        from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
        from transformers import CLIPTextModelWithProjection, T5EncoderModel

        from synthgen.models.devices import torch_device, torch_dtype

        place = resolve(options.model)
        self._device = torch_device(execution)
        self._pooled = options.pooled
        self._length = num_t5_tokens(place, options.max_sequence_length)
        revision = pinned_revision(options.model, options.revision)
        index = sd3_index(options.model, place, revision)
        is_absent = not options.t5 or (index.get("text_encoder_3") or [None])[0] is None
        parts: dict[str, Any] = {"text_encoder_3": None, "tokenizer_3": None} if is_absent else {}
        kinds = {"text_encoder": CLIPTextModelWithProjection, "text_encoder_2": CLIPTextModelWithProjection}
        kinds |= {} if is_absent else {"text_encoder_3": T5EncoderModel}
        for name, kind in kinds.items():
            parts[name] = load_network(
                kind,
                options.model,
                place,
                name,
                torch_dtype(execution, self._device),
                revision,
                variant=options.variant,
                way_out="; or set t5: false for embedder and renderer" if kind is T5EncoderModel else "",
            )
        with loading(options.model):
            # encode_prompt asks the transformer for its width when T5 is absent: its configuration is enough
            config = SD3Transformer2DModel.load_config(place, subfolder="transformer", **revision)
            with init_empty_weights(include_buffers=True):  # SD3.5-Large has 360 MB of positions
                transformer = SD3Transformer2DModel.from_config(config)
            self._pipeline = StableDiffusion3Pipeline.from_pretrained(
                place, transformer=transformer, vae=None, **parts, **revision
            )
        for part in (self._pipeline.text_encoder, self._pipeline.text_encoder_2, self._pipeline.text_encoder_3):
            if part is not None:
                part.to(self._device)
        self._torch = torch
        if options.pooled == "t5" and self._pipeline.text_encoder_3 is None:
            why = "it lacks" if options.t5 else "is switched off"
            raise ModelError(f"model {options.model!r}: pooled: t5 needs a T5 encoder, which {why}; use pooled: clip")
        t5 = "" if is_absent else "+t5"
        self.id = (
            f"sd3:{options.model}@{revision_of(options.model, options.revision)}:{options.pooled}{t5}:{self._length}"
        )

    def encode(self, prompts: Sequence[str]) -> list[TextEmbedding]:
        """tokens (77 + T5 tokens, joint attention width) and pooled vectors, float32."""
        return [self._encode(prompt) for prompt in prompts]

    def unread(self, prompt: str) -> Unread:
        """CLIP cuts after 77 tokens, T5 after `max_sequence_length`; the denoiser attends to both."""
        clip, t5 = self._pipeline.tokenizer, self._pipeline.tokenizer_3
        by_clip = read_length(prompt, token_counter(clip, clip.model_max_length), clip.model_max_length)
        by_t5 = read_length(prompt, token_counter(t5, self._length), self._length) if t5 and self._length else 0
        pooled = by_t5 if self._pooled == "t5" else by_clip
        return Unread(prompt[pooled:].strip(), prompt[max(by_clip, by_t5) :].strip())

    def positions(self, prompt: str, words: Sequence[str]) -> list[int]:
        """Rows of `tokens` that belong to any of the words (plurals too, in any spelling) in a prompt;

        [] if none is there, or the prompt is cut before.

        CLIP's tokens come first, T5's after them.
        """
        prompt = unicodedata.normalize("NFC", prompt)  # as both tokenizers do, whose places in a text are of that
        spans = list(find_wordings(prompt, frozenset().union(*map(wordings, words))))
        clip = self._pipeline.tokenizer
        parts = [(clip, clip.model_max_length, 0)]
        if self._pipeline.tokenizer_3 is not None:
            parts.append((self._pipeline.tokenizer_3, self._length, clip.model_max_length))
        rows = []
        for tokenizer, length, first in parts:
            if length:
                offsets = tokenizer(prompt, truncation=True, max_length=length, return_offsets_mapping=True)[
                    "offset_mapping"
                ]
                # special tokens have empty offsets
                rows += [
                    first + n
                    for n, (a, b) in enumerate(offsets)
                    if any(max(a, start) < min(b, stop) for start, stop in spans)
                ]
        return rows

    def _encode(self, prompt: str) -> TextEmbedding:
        with self._torch.inference_mode():
            states, _, pooled, _ = self._pipeline.encode_prompt(
                prompt=prompt,
                prompt_2=None,
                prompt_3=None,
                device=self._device,
                do_classifier_free_guidance=False,
                max_sequence_length=self._length,
            )
            if self._pooled == "t5":
                # the rest of T5's states are of padding, of which a short prompt has more
                words = len(self._pipeline.tokenizer_3(prompt, truncation=True, max_length=self._length)["input_ids"])
                pooled = states[:, -self._length :][:, :words].mean(dim=1)
            dtype: Any = str(states.dtype).removeprefix("torch.")
            return TextEmbedding(_numpy(states[0]), _numpy(pooled[0]), dtype)


def _numpy(tensor: Any) -> np.ndarray:
    return tensor.float().cpu().numpy()
