"""Support prototypes, class names, and what both agree on: rows proposers/*.

Coarse masks as the proposers give them, before APF, APR and SABR. `_iou` is the mIoU over the pixels that the proposer
labels, `_coverage` the share of the judged pixels that it labels. `prototype_same_coverage_iou` is what agreement has
to beat: prototypes alone, cut by their own score to as many pixels as agreement labels. The text side is `dense_clip`
on mini/clip, which has seen drawings only: on photographs the rows tell what a text proposer costs that knows nothing
of them, not what SAM 3 would give.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks import photographs
from benchmarks.masks import OF_PROTOTYPES, SUPPORT_SEEDS, class_ids_of, drawn_scenes
from benchmarks.photographs import by_sequence, evenly, recipe_for, true_masks
from benchmarks.row import Row, scored, spread_of
from segkit.labels import IGNORE, LabelSpace
from segkit.pictures import read_image
from segtrain.metrics.iou import mean_iou
from synthgen.backends import load
from synthgen.labels import read_label_space
from synthgen.models import Proposal, ProposalRequest, proposals
from synthgen.models.proposers.agreement import agreed
from synthgen.recipe import Recipe, read_recipe
from synthgen.refine import stage

MEASURES = (
    *(f"{who}_{what}" for who in ("prototype", "text", "agreement") for what in ("iou", "coverage")),
    "prototype_same_coverage_iou",
)
ROWS = {data: tuple(f"proposers/{data}/{measure}" for measure in MEASURES) for data in ("drawn", "camvid")}
_WITHOUT_SAM = "refine.sabr.enabled=false"


def drawn(per_class: int = 10, seeds: Sequence[int] = SUPPORT_SEEDS, settings: Sequence[str] = ()) -> Iterator[Row]:
    """The default recipe on held-out drawings, `per_class` of each class, candidates its class and the background;
    spread over the seeds of the support set."""
    scenes, space = drawn_scenes(per_class), read_label_space("objects")
    images, truth = [scene.image for scene in scenes], [scene.mask for scene in scenes]
    found = []
    for seed in seeds:
        recipe = read_recipe("syn4seg-mini", [f"support.drawn.seed={seed}", *OF_PROTOTYPES, _WITHOUT_SAM, *settings])
        found.append(_measured(recipe, "objects", images, truth, class_ids_of(scenes), space))
    yield from _rows("drawn", found)


def camvid(
    support: int = photographs.SUPPORT, frames: int = photographs.FRAMES, settings: Sequence[str] = ()
) -> Iterator[Row]:
    """The recipe label-photos on each CamVid sequence with support images of the others, candidates all classes; spread
    over the sequences."""
    if not photographs.CAMVID.is_dir():
        print(f"  not run: no CamVid in {photographs.CAMVID}; set SYNTHGEN_CAMVID to the folder with train/ and val/")
        return
    space, sequences = read_label_space("camvid"), by_sequence()
    found = []
    for name, own in sequences.items():
        others = [frame for other, more in sequences.items() if other != name for frame in more]
        chosen = evenly(own, frames)
        images = [read_image(image) for image, _ in chosen]
        with tempfile.TemporaryDirectory() as place:
            recipe = recipe_for(evenly(others, support), space, Path(place), settings)
            any_class = [IGNORE] * len(images)
            found.append(_measured(recipe, "camvid", images, true_masks(chosen, space), any_class, space))
    yield from _rows("camvid", found)


def _measured(
    recipe: Recipe,
    text_space: str,
    images: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
    class_ids: Sequence[int],
    space: LabelSpace,
) -> dict[str, float]:
    """Each measure of one support set; the stage's own models and candidates."""
    text = load("proposer", {"name": "dense_clip", "space": text_space, "model": "mini/clip"}, recipe.execution)
    answers: dict[str, list[Proposal]] = {"prototype": [], "text": [], "agreement": []}
    with tempfile.TemporaryDirectory() as place:
        built = stage.build(recipe, Path(place))
        assert built._extractor is not None  # of a recipe with prototypes
        for image, class_id in zip(images, class_ids, strict=True):
            [grid] = built._extractor.features([image])
            request = ProposalRequest(image, grid, built._candidates(class_id), "")
            [by_prototypes], [by_text] = (proposals(one, [request]) for one in (built._proposer, text))
            for who, proposal in zip(
                answers, (by_prototypes, by_text, agreed([by_prototypes, by_text], keeps_one_sided=False)), strict=True
            ):
                answers[who].append(proposal)
    values = {}
    for who, made in answers.items():
        masks = [one.mask for one in made]
        values[f"{who}_iou"], values[f"{who}_coverage"] = (
            iou_where_labelled(masks, truth, space),
            coverage(masks, truth),
        )
    cut = surest(answers["prototype"], truth, count_labelled([one.mask for one in answers["agreement"]], truth))
    values["prototype_same_coverage_iou"] = iou_where_labelled(cut, truth, space)
    return values


def iou_where_labelled(masks: Sequence[np.ndarray], truth: Sequence[np.ndarray], space: LabelSpace) -> float:
    """mIoU over the pixels that `masks` label."""
    judged = [np.where(mask == IGNORE, np.uint8(IGNORE), true) for mask, true in zip(masks, truth, strict=True)]
    return scored(mean_iou(masks, judged, space.ids))


def count_labelled(masks: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> int:
    """Pixels with a label, of those that the truth judges."""
    return sum(int(((mask != IGNORE) & (true != IGNORE)).sum()) for mask, true in zip(masks, truth, strict=True))


def coverage(masks: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> float:
    """Their share of the judged pixels."""
    return count_labelled(masks, truth) / sum(int((true != IGNORE).sum()) for true in truth)


def surest(made: Sequence[Proposal], truth: Sequence[np.ndarray], count: int) -> list[np.ndarray]:
    """The masks with only the `count` judged pixels of the highest scores over all images; of equal ones the first."""
    scores = np.concatenate(
        [np.where(true != IGNORE, one.score, -1).ravel() for one, true in zip(made, truth, strict=True)]
    )
    kept = np.zeros(len(scores), bool)
    kept[np.argsort(-scores, kind="stable")[:count]] = True
    parts = np.split(kept, np.cumsum([one.mask.size for one in made])[:-1])
    return [
        np.where(part.reshape(one.mask.shape), one.mask, np.uint8(IGNORE))
        for part, one in zip(parts, made, strict=True)
    ]


def _rows(data: str, found: Sequence[dict[str, float]]) -> Iterator[Row]:
    for measure in MEASURES:
        values = [one[measure] for one in found]
        # what does not follow from the support set has no spread, not one of rounding
        spread = spread_of(values) if len(set(values)) > 1 or len(values) < 2 else 0.0
        yield Row(f"proposers/{data}/{measure}", float(np.mean(values)), "fraction", spread, len(values))
