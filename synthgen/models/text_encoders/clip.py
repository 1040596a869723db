"""Text encoder `clip`:

the text tower of a CLIP (Radford et al., 2021) through open_clip, the mini one and the released ones alike.

It only pools, so a renderer encodes the prompts itself. `pooled` is the projected embedding, which CLIP trained to be
compared by cosine.

    embedder: {name: clip}                                                              the mini that ships
    embedder: {name: clip, model: "hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K"}       a Hub model
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from synthgen.backends import Cost
from synthgen.models import TextEmbedding, Unread
from synthgen.models.context import read_length, token_counter
from synthgen.models.costs import clip_text_cost
from synthgen.models.devices import torch_device
from synthgen.models.feature_extractors.open_clip import load_clip
from synthgen.models.provenance import revision_of


class Options(BaseModel):
    """Which CLIP."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = Field("mini/clip", description="a folder of open_clip's Hub layout, or a Hub id")


def build(options: Options, execution: Any) -> ClipTextEncoder:
    """Load the model and drop its image tower."""
    return ClipTextEncoder(options, execution)


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost | None:
    """One pass of the text tower."""
    return clip_text_cost(options.model)


class ClipTextEncoder:
    """Encodes one prompt at a time in float32, so that the result cannot depend on what else is in a batch."""

    def __init__(self, options: Options, execution: Any) -> None:
        self._clip, _, self._tokenizer = load_clip(options.model, execution)
        self._clip.visual = None
        self._device = torch_device(execution)
        self.id = f"clip:{options.model}@{revision_of(options.model)}"

    def encode(self, prompts: Sequence[str]) -> list[TextEmbedding]:
        """No tokens, pooled vectors of CLIP's width.

        Prompts beyond the context (77 tokens) are cut, as CLIP's tokenizer does: `unread` tells what.
        """
        return [TextEmbedding(np.zeros((0, 0), np.float32), self._pooled(prompt)) for prompt in prompts]

    def unread(self, prompt: str) -> Unread:
        """What CLIP's tokenizer cuts: 77 tokens are read, 24 of the mini."""
        limit: int = self._tokenizer.context_length
        own = getattr(self._tokenizer, "tokenizer", None)  # of transformers, which some CLIPs use
        count = (lambda text: len(self._tokenizer.encode(text)) + 2) if own is None else token_counter(own, limit)
        cut = prompt[read_length(prompt, count, limit) :].strip()
        return Unread(cut, cut)

    def _pooled(self, prompt: str) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return self._clip.encode_text(self._tokenizer([prompt]).to(self._device))[0].float().cpu().numpy()
