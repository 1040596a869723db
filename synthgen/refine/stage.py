"""`refine`: images to masks. Coarse proposal, APF, APR (Syn4Seg: APE), then SABR;

every step's mask stays an artefact of its own. Where the masks are label maps and stay as they are, nothing is learnt
from support images and no features are computed (FLEX-Seg: the conditioning mask is the label, unrepaired).

Of each row five 8-bit L PNGs are written: {key}_coarse.png (the proposer), {key}_filtered.png (after APF),
{key}_relabelled.png (after APR), {key}_mask.png (after SABR) and {key}_confidence.png; of each unit one
{key}_class_rates.json: what APF kept and APR filled, class by class. A mask in which nothing was found is still a row:
filtering is for the stage after this one.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from segkit.labels import IGNORE, LabelSpace
from synthgen.backends import load, statement
from synthgen.classes import wanted_ids
from synthgen.errors import InputError, RecipeError
from synthgen.images import read_image, read_mask, write_image
from synthgen.labels import read_label_space
from synthgen.models import FeatureExtractor, Labelled, Learns, MaskDecoder, Proposer, Prototypes
from synthgen.models.provenance import chosen_options, revisions_of
from synthgen.models.used import masks_are_maps, used_backends
from synthgen.recipe import Recipe
from synthgen.records import Labelling, MaskRecord, Rejected, RenderRecord
from synthgen.refine.ape import filled_fraction
from synthgen.refine.calibration import (
    calibrate,
    calibration_text,
    open_thresholds,
    record,
    recorded,
    refuse_open_without_masks,
    with_thresholds,
)
from synthgen.refine.class_rates import Rates, add_rates, count_image, rates_of, rates_text, write_rates
from synthgen.refine.learnt import learn_once
from synthgen.refine.leave_one_out import cases, distinct, left_out_of
from synthgen.refine.prototypes import support_prototypes, support_sums
from synthgen.refine.steps import Asked, MaskSteps, Steps
from synthgen.refine.support import check_support, support_shots
from synthgen.refine.whitening import whitened
from synthgen.runner import StageRun
from synthgen.sources.listing import source_hash

NAME, VERB = "refine", "refine"
READS, GIVES = RenderRecord, MaskRecord
BY_ROW = True
SINGLE_UNIT = False

NO_PROTOTYPES = Prototypes((), np.zeros((0, 1), np.float32))
MOST_OWN_IMAGES = 512
"""So many of the run's own images a round learns from at the most [ours]."""
_ROLES = {"features": "feature_extractor", "proposer": "proposer", "mask_decoder": "mask_decoder"}


def settings(recipe: Recipe) -> dict[str, Any]:
    """Label space, wanted classes, support set (with a hash of its files), the refine section with every backend
    option, weight revisions.

    Raises InputError or LabelError for a support folder that does not show a wanted class or holds ids outside the
    label space, and RecipeError for a threshold that is to be found by a proposer which cannot label support images.
    """
    space = read_label_space(recipe.labels.space)
    refuse_open_without_masks(recipe.refine)
    _refuse_rounds_without_training(recipe)
    support = recipe.support.model_dump(mode="json")
    if recipe.support.folder:
        support["folder"] = source_hash(
            recipe.support.source, Path(recipe.support.folder).expanduser(), recipe.support.split
        )
    if recipe.support.folder or not masks_are_maps(recipe):
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
    if recipe.refine.whitening is not None:
        labelled = ((shot.image, shot.mask) for shot in images)
        extractor = whitened(extractor, labelled, wanted, space.background, recipe.refine.whitening)
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
        asked = cases(shots, grids, sums, proposer, wanted, space.background, count, _words(space))
        found = record(calibrate(asked, recipe.refine, space.background), stage)
    if found is not None:
        recipe = recipe.model_copy(update={"refine": with_thresholds(recipe.refine, found.thresholds)})
    prototypes = support_prototypes(sums, wanted, space.background, count)
    proposer.prepare(shots, prototypes, space.background)
    decoder: MaskDecoder | None = None
    if recipe.refine.sabr.enabled:
        decoder = load("mask_decoder", recipe.refine.mask_decoder.model_dump(), recipe.execution)
    built = RefineStage(recipe, run, space, prototypes, extractor, proposer, decoder)
    if isinstance(proposer, Learns) and proposer.learns:
        learn_once(proposer, stage, recipe.refine.rounds, lambda: built.own_labels(_first_rows(run)))
    return built


def _first_rows(run: Path) -> list[RenderRecord]:
    """The rendered images of the first keys: what a round learns from is the same whoever asks."""
    render = StageRun("render", run / "render", RenderRecord, None)
    if not render.is_complete():
        return []
    stored = render.stored()  # of a million rows the keys alone
    by_key = pc.sort_indices(stored.column("key")).to_numpy()  # text sorts by code points here and in Python
    return stored.take(by_key[:MOST_OWN_IMAGES])


def _refuse_rounds_without_training(recipe: Recipe) -> None:
    proposer = recipe.refine.proposer.model_dump()
    if recipe.refine.rounds and not statement("proposer", proposer, "trains", False):
        raise RecipeError(
            f"refine.rounds is {recipe.refine.rounds}, but the proposer {proposer['name']!r} learns nothing: set "
            "refine.proposer={name: support_segmenter}, or refine.rounds=0"
        )


def _words(space: LabelSpace) -> dict[int, str]:
    """The word for each class id in a sentence."""
    return {label.id: label.spoken for label in space.labels}


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


class RefineStage(MaskSteps):
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
        chosen = recipe.refine.proposer.model_dump()
        super().__init__(
            recipe.refine,
            wanted_ids(recipe, space),
            space.background,
            prototypes,
            extractor,
            proposer,
            decoder,
            words=_words(space),
            is_scored=bool(statement("proposer", chosen, "score_is_confidence", False)),
        )
        self.batch_size = recipe.execution.batch_size
        self._run = run

    def process(self, rows: Sequence[RenderRecord], folder: Path, unit: str) -> Iterator[MaskRecord | Rejected]:
        """One MaskRecord for each row, or a Rejected `unreadable_image`."""
        rates: list[Rates] = []
        for start in range(0, len(rows), self.batch_size):
            yield from self._batch(rows[start : start + self.batch_size], folder, f"refine/{unit}", rates)
        if rows:
            write_rates(add_rates(rates), folder, rows[0].key)

    def own_labels(self, rows: Sequence[RenderRecord]) -> Iterator[Labelled]:
        """The images of these rows with the masks that they have now; what cannot be read is left out."""
        for start in range(0, len(rows), self.batch_size):
            asked = []
            for row in rows[start : start + self.batch_size]:
                with contextlib.suppress(InputError):  # `process` tells of it
                    asked.append(self._asked(row))
            for one, made in zip(asked, self.steps(asked), strict=True):
                yield Labelled(one.image, made.mask, made.confidence)

    def _asked(self, row: RenderRecord) -> Asked:
        """Raises InputError for an image that cannot be read."""
        layout = read_mask(self._run / row.picture.layout) if row.picture.layout else None
        return Asked(read_image(self._run / row.picture.image), row.subject.class_id, row.subject.prompt, layout)

    def _batch(
        self, rows: Sequence[RenderRecord], folder: Path, place: str, rates: list[Rates]
    ) -> Iterator[MaskRecord | Rejected]:
        readable: list[tuple[RenderRecord, Asked]] = []
        for row in rows:
            try:
                readable.append((row, self._asked(row)))
            except InputError as error:
                detail = str(error).replace(f"{self._run}/", "")
                yield Rejected(
                    key=row.key, parent=row.key, stage="refine", reason="unreadable_image", detail=detail, score=0.0
                )
        if not readable:
            return
        made = self.steps([asked for _, asked in readable])
        for (row, _), steps in zip(readable, made, strict=True):
            rates.append(count_image(steps.coarse, steps.filtered, steps.relabelled))
            yield _record(row, steps, folder, place)


def _record(row: RenderRecord, steps: Steps, folder: Path, place: str) -> MaskRecord:
    """Writes the files; gives the row."""
    mask = steps.mask
    files = {}
    for name, array in (
        ("coarse", steps.coarse),
        ("filtered", steps.filtered.mask),
        ("relabelled", steps.relabelled),
        ("mask", mask),
        ("confidence", steps.confidence),
    ):
        write_image(array, folder / f"{row.key}_{name}.png")
        files[name] = f"{place}/{row.key}_{name}.png"
    labelled = float((mask != IGNORE).mean())
    class_id = row.subject.class_id
    labelling = Labelling(
        mask=files["mask"],
        confidence=files["confidence"],
        region_similarity=steps.filtered.similarity,
        filled_fraction=filled_fraction(steps.coarse, steps.filtered.mask, steps.relabelled),
        labelled_fraction=labelled,
        # A row that is about no class in particular has what it was made for wherever it is labelled.
        class_fraction=labelled if class_id == IGNORE else float((mask == class_id).mean()),
        sam_predicted_iou=float(np.mean(steps.sam_ious)) if len(steps.sam_ious) else -1.0,
    )
    return MaskRecord(
        key=row.key,
        parent=row.parent,
        subject=row.subject,
        picture=row.picture,
        coarse=files["coarse"],
        filtered=files["filtered"],
        relabelled=files["relabelled"],
        labelling=labelling,
        num_regions=steps.filtered.num_regions,
        num_kept_regions=steps.filtered.num_kept,
        num_sam_boxes=len(steps.sam_ious),
        pair=row.pair,
    )
