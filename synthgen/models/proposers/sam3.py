"""Coarse masks from class names by SAM 3, which finds every instance of a concept that words name (Carion et al., "SAM
3: Segment Anything with Concepts", 2025), as transformers has it.

    proposer: {name: sam3, model: facebook/sam3}    gated: accept the SAM License on its Hub page, set HF_TOKEN

An image is encoded once; each candidate class but the background is asked for by its word (`Label.spoken`), and gives
instance masks with scores. A pixel takes the class of the highest score among the masks that cover it; what no mask
covers is background, or 255 in label spaces without one.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from segkit.labels import IGNORE
from segkit.printable import excerpt
from synthgen.backends import Cost, Licence
from synthgen.errors import ModelError
from synthgen.models import Proposal, ProposalRequest, Prototypes, SupportShot, TellsScores
from synthgen.models.costs import sam_transformers_cost
from synthgen.models.devices import torch_device, torch_dtype
from synthgen.models.provenance import pinned_revision
from synthgen.models.weights import loading, resolve
from synthgen.models.whole_networks import load_network, model_config

LICENCE = Licence("SAM License", "https://huggingface.co/facebook/sam3/blob/main/LICENSE", "sam-license")
_WORDS = 256  # texts whose embeddings are kept


class Options(BaseModel):
    """Which SAM 3, and what counts as found."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = Field("facebook/sam3", description="Hub id or local folder in transformers' layout")
    revision: str = Field("", description="Hub revision; empty = main")
    min_score: float = Field(
        0.5,
        ge=0,
        le=1,
        description="an instance counts above this score, its own times that of the concept's presence [code: "
        "transformers' example for facebook/sam3]",
    )
    mask_threshold: float = Field(
        0.5, ge=0, le=1, description="a pixel is in a mask above this probability [code: the same]"
    )
    rest: str = Field(
        "background",
        pattern="^(background|unlabelled)$",
        description="what a pixel is that no instance covers, where the candidates have a background [ours]",
    )


def build(options: Options, execution: Any) -> Sam3Proposer:
    """Load the detector (of the Hub's video model too) and its processor."""
    return Sam3Proposer(options, execution)


def cost(options: Options, size: tuple[int, int], execution: Any) -> Cost | None:
    """One pass of the image encoder; what each class adds is not counted."""
    return sam_transformers_cost(options.model)


def licences(options: Options) -> dict[str, Licence]:
    """Meta publishes SAM 3 under a licence of its own."""
    return {options.model: LICENCE} if options.model.lower().startswith("facebook/sam3") else {}


def score_is_confidence(options: Options) -> bool:
    """The detector says itself how sure it is of a mask, which cosines to support prototypes do not know."""
    return True


class Sam3Proposer(TellsScores):
    """Each image by itself, each class by itself."""

    def __init__(self, options: Options, execution: Any) -> None:
        import torch
        from transformers import Sam3Model, Sam3Processor

        place, revision = resolve(options.model), pinned_revision(options.model, options.revision)
        # Meta's repository holds the video model, of which the detector is a part
        way_out = "SAM and SAM 2 take no words: name them as refine.mask_decoder"
        model_config(options.model, place, revision, ("sam3", "sam3_video"), way_out)
        self._torch, self._options = torch, options
        self._device = torch_device(execution)
        self._dtype = torch_dtype(execution, self._device)
        model = load_network(Sam3Model, options.model, place, "", torch.float32, revision)
        self._model = model.requires_grad_(False).to(self._device)
        with loading(options.model):
            self._processor = Sam3Processor.from_pretrained(place, **revision)
        self._text = functools.lru_cache(maxsize=_WORDS)(self._encode)

    def prepare(self, shots: Sequence[SupportShot], prototypes: Prototypes, background: int | None) -> None:
        """The words are the classifier; only the background's id is kept."""
        self._background = background

    def propose_scored(self, requests: Sequence[ProposalRequest]) -> list[Proposal]:
        """The score is that of the instance; of the rest, the probability that no class is there: 1 minus the highest
        presence times semantic probability of any candidate [ours]. Raises ModelError for a request without words."""
        return [self._propose(request) for request in requests]

    def _propose(self, request: ProposalRequest) -> Proposal:
        if len(request.class_names) != len(request.candidates):
            raise ModelError("proposer `sam3`: asks for classes by name, and the request brings none; give class_names")
        size = (request.image.shape[0], request.image.shape[1])
        mask, best, there = np.full(size, IGNORE, np.uint8), np.zeros(size, np.float32), np.zeros(size, np.float32)
        pixels = self._processor(images=np.array(request.image), return_tensors="pt")["pixel_values"]
        with self._torch.inference_mode(), self._autocast():
            seen = self._model.get_vision_features(pixels.to(self._device))
            for class_id, word in zip(request.candidates, request.class_names, strict=True):
                if class_id == self._background:
                    continue
                score, likely = self._look(seen, word, size)
                higher = score > best
                mask[higher], best[higher] = class_id, score[higher]
                np.maximum(there, likely, out=there)
        if self._background in request.candidates and self._options.rest == "background":
            rest = mask == IGNORE
            mask[rest], best[rest] = self._background, 1 - there[rest]
        return Proposal(mask, best)

    def _look(self, seen: Any, word: str, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Two maps (H, W) float32 in [0, 1] of one concept: the highest score of an instance that covers the pixel, 0
        where none does, and the probability that it is there."""
        text, attended = self._text(word)
        found = self._model(vision_embeds=seen, text_embeds=text, attention_mask=attended)
        for name in ("pred_logits", "presence_logits", "pred_masks"):
            found[name] = found[name].float()
        [kept] = self._processor.post_process_instance_segmentation(
            found, self._options.min_score, self._options.mask_threshold, [size]
        )
        score = np.zeros(size, np.float32)
        for one, covered in zip(kept["scores"].cpu().numpy(), kept["masks"].cpu().numpy().astype(bool), strict=True):
            score[covered] = np.maximum(score[covered], one)
        likely = found.presence_logits.sigmoid() * found.semantic_seg[0, 0].float().sigmoid()
        whole = self._torch.nn.functional.interpolate(likely[None, None], size, mode="bilinear", align_corners=False)
        return score, whole[0, 0].cpu().numpy()

    def _encode(self, word: str) -> tuple[Any, Any]:
        """Text features of a word, and which of its tokens are read."""
        longest = self._model.config.text_config.max_position_embeddings
        inputs = self._processor(text=word, return_tensors="pt").to(self._device)
        if inputs["input_ids"].shape[1] > longest:
            raise ModelError(
                f"proposer `sam3`: the class name {excerpt(word, 60)} has more than its {longest} tokens; give the "
                "class a short synonym"
            )
        attended = inputs["attention_mask"]
        return self._model.get_text_features(input_ids=inputs["input_ids"], attention_mask=attended), attended

    def _autocast(self) -> Any:
        return self._torch.autocast(self._device.type, self._dtype, enabled=self._dtype != self._torch.float32)
