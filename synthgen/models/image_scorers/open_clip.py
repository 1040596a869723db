"""Image and text embeddings of CLIP (Radford et al., 2021) through open_clip: the mini one and the released ones alike.

scorer: {name: open_clip}                                                               the mini that ships
scorer: {name: open_clip, model: "hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K"}        a Hub model
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from synthgen.backends import Cost
from synthgen.models.costs import clip_cost
from synthgen.models.devices import torch_device, torch_dtype
from synthgen.models.feature_extractors.open_clip import load_clip


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = Field("mini/clip", description="a folder of open_clip's Hub layout, or a Hub id")


def build(options: Options, execution: Any) -> ClipScorer:
    clip, preprocess, tokenizer = load_clip(options.model, execution)
    return ClipScorer(clip, preprocess, tokenizer, f"open_clip:{options.model}", execution)


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost | None:
    """One pass of the image tower."""
    return clip_cost(options.model)


class ClipScorer:
    """Embeds items one by one: rounding may follow a batch's size, and the batch size must not change a score."""

    def __init__(self, clip: Any, preprocess: Any, tokenizer: Any, id: str, execution: Any) -> None:
        self._clip = clip
        self._preprocess = preprocess
        self._tokenizer = tokenizer
        self._device = torch_device(execution)
        self._dtype = torch_dtype(execution, self._device)
        self.id = id

    def embed_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        from PIL import Image

        return self._embed(
            self._clip.encode_image, [self._preprocess(Image.fromarray(image))[None] for image in images]
        )

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Texts beyond the model's context are cut, as CLIP's tokenizer does; `cuts` says which."""
        return self._embed(self._clip.encode_text, [self._tokenizer([text]) for text in texts])

    def cuts(self, text: str) -> bool:
        """Whether the model reads only the beginning of a text."""
        limit = getattr(self._tokenizer, "context_length", None)
        if not isinstance(limit, int):
            return False
        # with room for one token more, a text that was cut is another row than before, or the room is taken
        more, empty = (self._tokenizer([words], context_length=limit + 1)[0] for words in (text, ""))
        return bool((more[:limit] != self._tokenizer([text])[0]).any() or more[limit] != empty[limit])

    def _embed(self, encode: Any, inputs: Sequence[Any]) -> np.ndarray:
        import torch
        from torch.nn.functional import normalize

        if not inputs:
            return np.zeros((0, self._width()), dtype=np.float32)
        half = self._dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self._device.type, self._dtype, enabled=half):
            rows = [normalize(encode(one.to(self._device)).float(), dim=-1)[0].cpu().numpy() for one in inputs]
        return np.stack(rows)

    def _width(self) -> int:
        return int(self._clip.visual.output_dim)
