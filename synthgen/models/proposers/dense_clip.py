"""Coarse masks from class names alone:

each patch takes the candidate whose text embedding it is most like (MaskCLIP, Zhou et al., ECCV 2022).

Needs no support set. A proposal request knows ids only, so the label space is an option of its own: give the one of
`labels.space`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from synthgen.backends import Cost
from synthgen.labels import LabelSpace, read_label_space
from synthgen.models import Proposal, ProposalRequest, Prototypes, SupportShot, TellsScores
from synthgen.models.costs import clip_cost
from synthgen.models.feature_extractors.open_clip import ClipFeatures, load_clip
from synthgen.models.feature_extractors.open_clip import Options as ClipOptions
from synthgen.models.proposers.prototype import nearest_class


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    space: str = Field(description="label space whose class names are embedded: the same as labels.space")
    model: str = Field("mini/clip", description="a folder of open_clip's Hub layout, or a Hub id")
    templates: tuple[str, ...] = Field(
        ("a photo of a {}.",), min_length=1, description="prompts for a class; {} is its name; the mean is used"
    )
    background_words: tuple[str, ...] = Field(
        ("background", "sky", "ground", "wall", "grass", "water"),
        min_length=1,
        description="what the background is called; the best counts",
    )
    longest_side_px: int = Field(
        0, ge=0, le=4096, description="of the resized image; 0 = the size that the model was trained with"
    )
    min_cosine: float = Field(
        -1.0, ge=-1, le=1, description="a pixel whose best cosine is below this stays 255; -1 = off"
    )

    @field_validator("templates")
    @classmethod
    def _one_gap(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        if any("{}" not in template for template in templates):
            raise ValueError("every template needs a {} for the class name")
        return templates


def build(options: Options, execution: Any) -> DenseClipProposer:
    clip, preprocess, tokenizer = load_clip(options.model, execution)
    dense = ClipOptions(model=options.model, tokens="value", layer=0, longest_side_px=options.longest_side_px)
    extractor = ClipFeatures(clip, preprocess, dense, execution)
    texts = class_texts(read_label_space(options.space), options.background_words)
    vectors = np.stack(
        [_embed(clip, tokenizer, [template.format(word) for template in options.templates]) for _, word in texts]
    )
    prototypes = Prototypes(tuple(class_id for class_id, _ in texts), vectors)
    return DenseClipProposer(extractor, prototypes, options.min_cosine, float(clip.logit_scale.exp()))


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost | None:
    """One pass of CLIP's image tower."""
    return clip_cost(options.model)


class DenseClipProposer(TellsScores):
    """Argmax of the upsampled cosines of CLIP's patches to the candidates' text embeddings."""

    def __init__(self, extractor: ClipFeatures, texts: Prototypes, min_cosine: float, logit_scale: float) -> None:
        """`logit_scale`: what CLIP multiplies its cosines with before its softmax."""
        self._extractor = extractor
        self._logit_scale = logit_scale
        self._texts = texts
        self._min_cosine = min_cosine

    def prepare(self, shots: Sequence[SupportShot], prototypes: Prototypes, background: int | None) -> None:
        """Nothing to learn: the texts are the classifier."""

    def propose_scored(self, requests: Sequence[ProposalRequest]) -> list[Proposal]:
        """The score is the label's share of CLIP's own softmax over the candidates (CLIP, Radford et al. 2021, 2.3),
        one word a candidate: its best."""
        features = self._extractor.features([request.image for request in requests])
        return [
            nearest_class(request, grid, self._texts, self._min_cosine, self._likelihood)
            for request, grid in zip(requests, features, strict=True)
        ]

    def _likelihood(self, cosines: np.ndarray) -> np.ndarray:
        """(H, W): the greatest of softmax(logit_scale * cosines) over K of (K, H, W)."""
        behind = self._logit_scale * (cosines - cosines.max(axis=0))
        share: np.ndarray = 1 / np.exp(behind).sum(axis=0)
        return share


def class_texts(space: LabelSpace, background_words: Sequence[str]) -> list[tuple[int, str]]:
    """(class id, word) of every text to embed:

    the spoken name of each foreground class, then each word for the background, if there is one.
    """
    texts = [(label.id, label.spoken) for label in space.foreground]
    if space.background is not None:
        texts += [(space.background, word) for word in background_words]
    return texts


def _embed(clip: Any, tokenizer: Any, prompts: list[str]) -> np.ndarray:
    """(D,) float32: normalised mean of the normalised text embeddings."""
    import torch
    from torch.nn import functional

    device = next(clip.parameters()).device
    with torch.inference_mode():
        each = functional.normalize(clip.encode_text(tokenizer(prompts).to(device)).float(), dim=-1)
        return functional.normalize(each.mean(dim=0), dim=0).cpu().numpy()
