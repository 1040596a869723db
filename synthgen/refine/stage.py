"""`refine`: images to masks. Coarse proposal, APF, APR (Syn4Seg: APE), then SABR;

every step's mask stays an artefact of its own. Where the masks are label maps and stay as they are, nothing is learnt
from support images and no features are computed (FLEX-Seg: the conditioning mask is the label, unrepaired).

Of each row five 8-bit L PNGs are written: {key}_coarse.png (the proposer), {key}_filtered.png (after APF),
{key}_relabelled.png (after APR), {key}_mask.png (after SABR) and {key}_confidence.png; of each unit one
{key}_class_rates.json: what APF kept and APR filled, class by class. A mask in which nothing was found is still a row:
filtering is for the stage after this one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segkit.labels import IGNORE, LabelSpace
from synthgen.backends import load, statement
from synthgen.classes import wanted_ids
from synthgen.errors import InputError
from synthgen.images import read_image, read_mask, write_image
from synthgen.labels import read_label_space
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
from synthgen.models.provenance import chosen_options, revisions_of
from synthgen.models.used import masks_are_maps, used_backends
from synthgen.recipe import Recipe
from synthgen.records import Labelling, MaskRecord, Rejected, RenderRecord
from synthgen.refine.ape import (
    ClassCosines,
    Filtered,
    adapted_prototypes,
    class_cosines,
    confidence_map,
    filled_fraction,
    filter_regions,
    relabel,
)
from synthgen.refine.calibration import (
    calibrate,
    calibration_text,
    numbers,
    open_thresholds,
    record,
    recorded,
    refuse_open_without_masks,
    with_thresholds,
)
from synthgen.refine.class_rates import Rates, add_rates, count_image, rates_of, rates_text, write_rates
from synthgen.refine.leave_one_out import cases, distinct, left_out_of
from synthgen.refine.prototypes import support_prototypes, support_sums
from synthgen.refine.regions import band_radius
from synthgen.refine.sabr import BoxPrompts, boundary_refine, box_prompts, sam_confidence
from synthgen.refine.support import check_support, support_shots
from synthgen.runner import StageRun
from synthgen.sources.listing import source_hash

NAME, VERB = "refine", "refine"
READS, GIVES = RenderRecord, MaskRecord
BY_ROW = True
SINGLE_UNIT = False

NO_PROTOTYPES = Prototypes((), np.zeros((0, 1), np.float32))
NO_FEATURES = np.zeros((1, 1, 1), np.float32)
_ROLES = {"features": "feature_extractor", "proposer": "proposer", "mask_decoder": "mask_decoder"}


def settings(recipe: Recipe) -> dict[str, Any]:
    """Label space, wanted classes, support set (with a hash of its files), the refine section with every backend
    option, weight revisions.

    Raises InputError or LabelError for a support folder that does not show a wanted class or holds ids outside the
    label space, and RecipeError for a threshold that is to be found by a proposer which cannot label support images.
    """
    space = read_label_space(recipe.labels.space)
    refuse_open_without_masks(recipe.refine)
    support = recipe.support.model_dump(mode="json")
    if recipe.support.folder:
        support["folder"] = source_hash(
            recipe.support.source, Path(recipe.support.folder).expanduser(), recipe.support.split
        )
        check_support(recipe, space, support["folder"])
    refine = recipe.refine.model_dump(mode="json")
    revisions: dict[str, str] = {}
    for field, role in _ROLES.items():
        refine[field] = chosen_options(role, getattr(recipe.refine, field))
        # A decoder that is switched off does not matter, and may be missing.
        if role in used_backends(recipe):
            revisions |= revisions_of(role, getattr(recipe.refine, field))
    return {
        "labels": {
            "names": {str(label.id): label.name for label in space.labels},
            "background": space.background,
            "wanted": list(wanted_ids(recipe, space)),
        },
        "seed": recipe.seed,
        "support": support,
        "refine": refine,
        "revisions": revisions,
    }


def build(recipe: Recipe, run: Path) -> RefineStage:
    """Load the models and learn the prototypes from the support set."""
    space = read_label_space(recipe.labels.space)
    proposer: Proposer = load("proposer", recipe.refine.proposer.model_dump(), recipe.execution)
    if masks_are_maps(recipe):
        return RefineStage(recipe, run, space, NO_PROTOTYPES, None, proposer, None)
    shots = support_shots(recipe, space)
    extractor: FeatureExtractor = load("feature_extractor", recipe.refine.features.model_dump(), recipe.execution)
    wanted, images = wanted_ids(recipe, space), distinct(shots)
    stage = StageRun(NAME, run / NAME, GIVES, None)
    is_open = bool(open_thresholds(recipe.refine))
    found = recorded(stage) if is_open else None
    left_out = left_out_of(len(images)) if is_open and found is None else frozenset()
    grids, sums = {}, []
    for number, shot in enumerate(images):  # features once, and kept of those alone that are asked for again
        features = extractor.features([shot.image])[0]
        sums.append(support_sums(features, shot.mask, wanted, space.background))
        if number in left_out:
            grids[number] = features
    count = recipe.refine.background_prototypes
    if is_open and found is None:
        words = {label.id: label.spoken for label in space.labels}
        asked = cases(shots, grids, sums, proposer, wanted, space.background, count, words)
        found = record(calibrate(asked, recipe.refine, space.background), stage)
    if found is not None:
        recipe = recipe.model_copy(update={"refine": with_thresholds(recipe.refine, found.thresholds)})
    prototypes = support_prototypes(sums, wanted, space.background, count)
    proposer.prepare(shots, prototypes, space.background)
    decoder: MaskDecoder | None = None
    if recipe.refine.sabr.enabled:
        decoder = load("mask_decoder", recipe.refine.mask_decoder.model_dump(), recipe.execution)
    return RefineStage(recipe, run, space, prototypes, extractor, proposer, decoder)


def card_facts(stage: StageRun) -> dict[str, Any]:
    """What APE did to each class, for the data card, and the thresholds that were chosen for it."""
    found = recorded(stage)
    return {
        "calibrated": {} if found is None else dataclasses.asdict(found.thresholds),
        "mask_rates": [
            {
                "class_id": class_id,
                "num_regions": rates.num_regions,
                "kept": rates.keep_rate,
                "filled": rates.fill_rate if rates.freed_px else None,
                "returned": rates.return_rate if rates.freed_px else None,
            }
            for class_id, rates in rates_of(stage).items()
        ],
    }


def closing_lines(stage: StageRun) -> list[str]:
    """The same for the end of a run, as plain text."""
    return [*calibration_text(stage), *rates_text(stage)]


@dataclasses.dataclass(slots=True)
class _Work:
    """One image on its way through the steps."""

    row: RenderRecord
    image: np.ndarray  # (H, W, 3) uint8
    proposal: Proposal  # the coarse mask
    filtered: Filtered
    relabelled: np.ndarray  # (H, W) uint8
    looks: ClassCosines | None  # to the image's adapted prototypes; None where no features are computed
    prompts: BoxPrompts


class RefineStage:
    """See the module."""

    def __init__(
        self,
        recipe: Recipe,
        run: Path,
        space: LabelSpace,
        prototypes: Prototypes,
        extractor: FeatureExtractor | None,
        proposer: Proposer,
        decoder: MaskDecoder | None,
    ) -> None:
        self._settings = recipe.refine
        self.batch_size = recipe.execution.batch_size
        self._run = run
        self._background = space.background
        self._wanted = wanted_ids(recipe, space)
        self._words = {label.id: label.spoken for label in space.labels}
        chosen = recipe.refine.proposer.model_dump()
        self._is_scored = bool(statement("proposer", chosen, "score_is_confidence", False))
        self._prototypes = prototypes
        self._extractor = extractor
        self._proposer = proposer
        self._decoder = decoder

    def process(self, rows: Sequence[RenderRecord], folder: Path, unit: str) -> Iterator[MaskRecord | Rejected]:
        """One MaskRecord for each row, or a Rejected `unreadable_image`."""
        rates: list[Rates] = []
        for start in range(0, len(rows), self.batch_size):
            yield from self._batch(rows[start : start + self.batch_size], folder, f"refine/{unit}", rates)
        if rows:
            write_rates(add_rates(rates), folder, rows[0].key)

    def _batch(
        self, rows: Sequence[RenderRecord], folder: Path, place: str, rates: list[Rates]
    ) -> Iterator[MaskRecord | Rejected]:
        readable: list[tuple[RenderRecord, np.ndarray]] = []
        for row in rows:
            try:
                readable.append((row, read_image(self._run / row.picture.image)))
            except InputError as error:
                detail = str(error).replace(f"{self._run}/", "")
                yield Rejected(
                    key=row.key, parent=row.key, stage="refine", reason="unreadable_image", detail=detail, score=0.0
                )
        if not readable:
            return
        images = [image for _, image in readable]
        features = self._extractor.features(images) if self._extractor else [NO_FEATURES] * len(images)
        requests = [
            ProposalRequest(
                image,
                grid,
                self._candidates(row.subject.class_id),
                row.subject.prompt,
                read_mask(self._run / row.picture.layout) if row.picture.layout else None,
                tuple(self._words[k] for k in self._candidates(row.subject.class_id)),
            )
            for (row, image), grid in zip(readable, features, strict=True)
        ]
        given = zip(readable, requests, proposals(self._proposer, requests), strict=True)
        works = [self._enhance(row, request, proposal) for (row, _), request, proposal in given]
        decoded: list[tuple[np.ndarray, np.ndarray]] | list[None] = [None] * len(works)
        if self._decoder is not None:
            # One call for the batch: every image is encoded once for all of its boxes.
            prompts = [MaskPrompts(work.prompts.boxes) for work in works]
            decoded = self._decoder.decode([work.image for work in works], prompts)
        for work, of_sam in zip(works, decoded, strict=True):
            rates.append(count_image(work.proposal.mask, work.filtered, work.relabelled))
            yield self._finish(work, of_sam, folder, place)

    def _candidates(self, class_id: int) -> tuple[int, ...]:
        """Class ids that an image may hold. Without a background to tell it from, one class alone would be no
        choice."""
        background = () if self._background is None else (self._background,)
        return (class_id, *background) if class_id != IGNORE and background else (*self._wanted, *background)

    def _enhance(self, row: RenderRecord, request: ProposalRequest, proposal: Proposal) -> _Work:
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
        return _Work(row, request.image, proposal, filtered, relabelled, looks, prompts)

    def _finish(
        self, work: _Work, of_sam: tuple[np.ndarray, np.ndarray] | None, folder: Path, place: str
    ) -> MaskRecord:
        """SABR, the confidence map, the files and the row."""
        sabr = self._settings.sabr
        mask, sam_ious, scored = work.relabelled, np.zeros(0), work.proposal if self._is_scored else None
        if work.looks is None:  # a label map is sure of itself
            confidence = np.where(mask == IGNORE, 0, 255).astype(np.uint8)
        elif of_sam is None:
            confidence = confidence_map(mask, work.looks, scored)
        else:
            sam_masks, sam_ious = of_sam
            band_px = band_radius((mask.shape[0], mask.shape[1]), sabr.band_fraction, sabr.min_band_px)
            refined = boundary_refine(
                mask,
                work.prompts,
                sam_masks,
                sam_ious,
                band_px=band_px,
                min_agreement=sabr.min_agreement,
                background=self._background,
            )
            known = confidence_map(refined.mask, work.looks, scored)
            mask, confidence = refined.mask, sam_confidence(known, refined)
        key = work.row.key
        files = {}
        for name, array in (
            ("coarse", work.proposal.mask),
            ("filtered", work.filtered.mask),
            ("relabelled", work.relabelled),
            ("mask", mask),
            ("confidence", confidence),
        ):
            write_image(array, folder / f"{key}_{name}.png")
            files[name] = f"{place}/{key}_{name}.png"
        labelled = float((mask != IGNORE).mean())
        class_id = work.row.subject.class_id
        labelling = Labelling(
            mask=files["mask"],
            confidence=files["confidence"],
            region_similarity=work.filtered.similarity,
            filled_fraction=filled_fraction(work.proposal.mask, work.filtered.mask, work.relabelled),
            labelled_fraction=labelled,
            # A row that is about no class in particular has what it was made for wherever it is labelled.
            class_fraction=labelled if class_id == IGNORE else float((mask == class_id).mean()),
            sam_predicted_iou=float(np.mean(sam_ious)) if len(sam_ious) else -1.0,
        )
        return MaskRecord(
            key=key,
            parent=work.row.parent,
            subject=work.row.subject,
            picture=work.row.picture,
            coarse=files["coarse"],
            filtered=files["filtered"],
            relabelled=files["relabelled"],
            labelling=labelling,
            num_regions=work.filtered.num_regions,
            num_kept_regions=work.filtered.num_kept,
            num_sam_boxes=len(sam_ious),
            pair=work.row.pair,
        )
