"""The steps from an image to its mask: coarse proposal, APF, APR (Syn4Seg: APE), SABR, and how sure the result is.

Arrays alone: which rows they are of, and where they are written, is the stage's (synthgen/refine/stage.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from segkit.labels import IGNORE
from synthgen.models import (
    FeatureExtractor,
    MaskDecoder,
    MaskPrompts,
    Proposal,
    ProposalRequest,
    Proposer,
    Prototypes,
    proposals,
)
from synthgen.models.cosine_maps import of_classes
from synthgen.refine.ape import (
    ClassCosines,
    Filtered,
    adapted_prototypes,
    class_cosines,
    confidence_map,
    filter_regions,
    relabel,
)
from synthgen.refine.calibration import numbers
from synthgen.refine.regions import band_radius
from synthgen.refine.sabr import BoxPrompts, boundary_refine, box_prompts, sam_confidence
from synthgen.settings import Refine

NO_FEATURES = np.zeros((1, 1, 1), np.float32)


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """An image and what it may show."""

    image: np.ndarray  # (H, W, 3) uint8
    class_id: int  # that it was made for; 255 = no class in particular
    prompt: str = ""
    layout: np.ndarray | None = None  # (H, W) uint8, the label map that it was rendered from


@dataclasses.dataclass(frozen=True, slots=True)
class Steps:
    """The mask after each step, (H, W) uint8 like `confidence`, and what the steps say of themselves."""

    coarse: np.ndarray
    filtered: Filtered
    relabelled: np.ndarray
    mask: np.ndarray
    confidence: np.ndarray  # 0..255 = 0..1
    sam_ious: np.ndarray  # (N,) float, that SAM predicts for each of its boxes; empty without SABR


@dataclasses.dataclass(slots=True)
class _Work:
    """One image on its way through the steps."""

    image: np.ndarray
    proposal: Proposal
    filtered: Filtered
    relabelled: np.ndarray
    looks: ClassCosines | None  # to the image's adapted prototypes; None where no features are computed
    prompts: BoxPrompts


class MaskSteps:
    """The models and the settings of the steps. A mask follows from its own image alone."""

    def __init__(
        self,
        settings: Refine,
        wanted: Sequence[int],
        background: int | None,
        prototypes: Prototypes,
        extractor: FeatureExtractor | None,
        proposer: Proposer,
        decoder: MaskDecoder | None,
        *,
        words: Mapping[int, str],
        is_scored: bool = False,
    ) -> None:
        """`words` are those of the classes in a sentence, by id; `is_scored` says that the proposer's score is the
        confidence of its labels."""
        self._settings = settings
        self._words = words
        self._is_scored = is_scored
        self._background = background
        self._wanted = tuple(wanted)
        self._prototypes = prototypes
        self._extractor = extractor
        self._proposer = proposer
        self._decoder = decoder

    def steps(self, asked: Sequence[Asked]) -> Iterator[Steps]:
        """Of a batch of images, in order."""
        images = [one.image for one in asked]
        features = self._extractor.features(images) if self._extractor else [NO_FEATURES] * len(images)
        requests = [self._request(one, grid) for one, grid in zip(asked, features, strict=True)]
        given = zip(requests, proposals(self._proposer, requests), strict=True)
        works = [self._enhance(request, proposal) for request, proposal in given]
        decoded: list[tuple[np.ndarray, np.ndarray]] | list[None] = [None] * len(works)
        if self._decoder is not None:
            # One call for the batch: every image is encoded once for all of its boxes.
            prompts = [MaskPrompts(work.prompts.boxes) for work in works]
            decoded = self._decoder.decode([work.image for work in works], prompts)
        for work, of_sam in zip(works, decoded, strict=True):
            yield self._finished(work, of_sam)

    def _candidates(self, class_id: int) -> tuple[int, ...]:
        """Class ids that an image may hold. Without a background to tell it from, one class alone would be no
        choice."""
        background = () if self._background is None else (self._background,)
        return (class_id, *background) if class_id != IGNORE and background else (*self._wanted, *background)

    def _request(self, asked: Asked, features: np.ndarray) -> ProposalRequest:
        candidates = self._candidates(asked.class_id)
        words = tuple(self._words[k] for k in candidates)
        return ProposalRequest(asked.image, features, candidates, asked.prompt, asked.layout, words)

    def _enhance(self, request: ProposalRequest, proposal: Proposal) -> _Work:
        """APF, then APR; then the boxes for SABR."""
        coarse = proposal.mask
        apf, apr, sabr, least = self._settings.apf, self._settings.apr, self._settings.sabr, numbers(self._settings)
        filtered = filter_regions(
            coarse,
            request.features,
            self._prototypes,
            lambda_apf=least.lambda_apf,
            min_region_px=apf.min_region_px,
            background=self._background,
            enabled=apf.enabled,
        )
        relabelled, looks = filtered.mask, None
        if self._extractor is not None:
            adapted = adapted_prototypes(
                filtered.mask, request.features, of_classes(self._prototypes, request.candidates), apr.beta
            )
            looks = class_cosines(request.features, adapted, (coarse.shape[0], coarse.shape[1]))
        if apr.enabled and looks is not None:
            relabelled = relabel(filtered.mask, looks, min_cosine=least.min_cosine, min_margin=least.min_margin)
        prompts = box_prompts(
            relabelled, background=self._background, min_region_px=sabr.min_region_px, box_padding=sabr.box_padding
        )
        return _Work(request.image, proposal, filtered, relabelled, looks, prompts)

    def _finished(self, work: _Work, of_sam: tuple[np.ndarray, np.ndarray] | None) -> Steps:
        """SABR and the confidence map."""
        sabr = self._settings.sabr
        mask, sam_ious, scored = work.relabelled, np.zeros(0), work.proposal if self._is_scored else None
        if work.looks is None:  # a label map is sure of itself
            confidence = np.where(mask == IGNORE, 0, 255).astype(np.uint8)
        elif of_sam is None:
            confidence = confidence_map(mask, work.looks, scored)
        else:
            sam_masks, sam_ious = of_sam
            refined = boundary_refine(
                mask,
                work.prompts,
                sam_masks,
                sam_ious,
                band_px=band_radius((mask.shape[0], mask.shape[1]), sabr.band_fraction, sabr.min_band_px),
                min_agreement=sabr.min_agreement,
                background=self._background,
                sure=None if scored is None or sabr.max_probability == 1 else self._sure(work),
            )
            mask = refined.mask
            confidence = sam_confidence(confidence_map(mask, work.looks, scored), refined)
        return Steps(work.proposal.mask, work.filtered, work.relabelled, mask, confidence, sam_ious)

    def _sure(self, work: _Work) -> np.ndarray:
        """(H, W) bool: where the proposer's label still stands, and it is sure enough of it."""
        least, proposal = self._settings.sabr.max_probability, work.proposal
        sure: np.ndarray = (proposal.score >= least) & (work.relabelled == proposal.mask)
        return sure
