"""How well APF and APR label each support image by the others, at every threshold of a grid.

One support image after another is left out: the rest is its support set, the proposer gives its coarse mask, and the
mask after APF and APR is compared with its own. SABR is not asked: it has no part in the thresholds, and SAM at every
point of the grid would cost more than the run.

A pixel that stays unlabelled counts as missed. With a background an image is asked for each class that it was chosen
for, as images of a prompt are: the candidates are the class and the background, the score is the class's IoU. Without
one the candidates are all wanted classes, and the score is the mean IoU of those that the image shows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from segkit.labels import IGNORE
from synthgen.models import ProposalRequest, Proposer, Prototypes, SupportShot
from synthgen.models.cosine_maps import of_classes
from synthgen.refine.ape import adapted_prototypes, class_cosines, filter_regions
from synthgen.refine.prototypes import SupportSums, support_prototypes
from synthgen.settings import Refine

MOST_LEFT_OUT = 64
"""So many images are left out at the most, evenly over the support set: a bound on time and memory [ours]."""


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One image that was left out, and what is asked of it."""

    coarse: np.ndarray  # (H, W) uint8, the proposer's, like the next
    truth: np.ndarray  # its own mask
    features: np.ndarray  # (h, w, D) float32
    prototypes: Prototypes  # of the other images
    candidates: tuple[int, ...]
    scored: tuple[int, ...]  # classes whose IoU counts: each has a pixel in `truth`


def left_out_of(num_images: int) -> frozenset[int]:
    """Numbers of the support images that are left out one by one: all, or `MOST_LEFT_OUT` spread evenly."""
    chosen = np.linspace(0, num_images - 1, min(num_images, MOST_LEFT_OUT)).round()
    return frozenset(chosen.astype(int).tolist())


def cases(
    shots: Sequence[SupportShot],
    grids: Mapping[int, np.ndarray],
    sums: Sequence[SupportSums],
    proposer: Proposer,
    wanted: Sequence[int],
    background: int | None,
    background_prototypes: int,
    class_names: Mapping[int, str],
) -> Iterator[Case]:
    """Every question to every image that is left out, in the order of the shots; none for a class that no other image
    shows.

    Images are numbered as the shots first show them. `grids` holds the features (h, w, D) of those that are left out,
    `sums` what each image adds to the prototypes, `class_names` the word for each class id. The proposer is prepared
    anew for each image: afterwards it is to be prepared with the whole support set.
    """
    images = distinct(shots)
    for number, grid in sorted(grids.items()):
        own = images[number]
        rest = [shot for shot in shots if shot.image is not own.image]
        if not rest:
            return
        others = [part for other, part in enumerate(sums) if other != number]
        prototypes = support_prototypes(others, wanted, background, background_prototypes)
        asked = _questions(own, shots, prototypes, wanted, background)
        if not asked:
            continue
        proposer.prepare(rest, prototypes, background)
        requests = [
            ProposalRequest(own.image, grid, named, "", None, tuple(class_names[k] for k in named))
            for named, _ in asked
        ]
        for (candidates, scored), coarse in zip(asked, proposer.propose(requests), strict=True):
            yield Case(coarse, own.mask, grid, prototypes, candidates, scored)


def distinct(shots: Sequence[SupportShot]) -> list[SupportShot]:
    """The first shot of each image: one that serves two classes is one image j of the sum over the support set."""
    first: dict[int, SupportShot] = {}
    for shot in shots:
        first.setdefault(id(shot.image), shot)
    return list(first.values())


def _questions(
    own: SupportShot,
    shots: Sequence[SupportShot],
    prototypes: Prototypes,
    wanted: Sequence[int],
    background: int | None,
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(candidates, classes whose IoU counts) of each question to one image."""
    known = set(prototypes.ids)
    if background is not None:
        chosen_for = dict.fromkeys(shot.class_id for shot in shots if shot.image is own.image)
        return [((k, background), (k,)) for k in chosen_for if k in known and k != background]
    shown = tuple(k for k in wanted if k in known and np.any(own.mask == k))
    return [(tuple(wanted), shown)] if shown else []


def iou_grid(case: Case, refine: Refine, grid: Mapping[str, Sequence[float]], background: int | None) -> np.ndarray:
    """(L, C, M) float64 in [0, 1]: mean IoU of the scored classes after APF and APR at each `lambda_apf`, `min_cosine`
    and `min_margin` of the grid. All other settings are those of `refine`.

    The same as `filter_regions` and `relabel` at every point: pixels are counted by how many values of the grid they
    pass, so that APR is done once for each set of regions that APF may keep.
    """
    cosines, margins = grid["min_cosine"], grid["min_margin"]
    scores = np.empty((len(grid["lambda_apf"]), len(cosines), len(margins)))
    known: dict[bytes, np.ndarray] = {}
    for row, value in enumerate(grid["lambda_apf"]):
        filtered = filter_regions(
            case.coarse,
            case.features,
            case.prototypes,
            lambda_apf=value,
            min_region_px=refine.apf.min_region_px,
            background=background,
            enabled=refine.apf.enabled,
        )
        kept = filtered.kept.tobytes()
        if kept not in known:
            known[kept] = _after_apr(case, filtered.mask, refine, cosines, margins)
        scores[row] = known[kept]
    return scores


def _after_apr(
    case: Case, mask: np.ndarray, refine: Refine, cosines: Sequence[float], margins: Sequence[float]
) -> np.ndarray:
    """(C, M): the scores of one filtered mask."""
    judged = case.truth != IGNORE
    free = judged & (mask == IGNORE)
    label = passed_cosines = passed_margins = np.zeros(0, np.int64)
    truth = np.zeros(0, np.uint8)
    if refine.apr.enabled:
        own = of_classes(case.prototypes, case.candidates)
        looks = class_cosines(
            case.features,
            adapted_prototypes(mask, case.features, own, refine.apr.beta),
            (mask.shape[0], mask.shape[1]),
        )
        if len(looks.class_ids):
            label, truth = looks.class_ids[looks.best[free]], case.truth[free]
            # float32, as thresholds are when they are compared with float32 pixels
            passed_cosines = np.searchsorted(np.asarray(cosines, np.float32), looks.top[free], side="right")
            passed_margins = np.searchsorted(
                np.asarray(margins, np.float32), looks.top[free] - looks.second[free], side="right"
            )

    def passing(chosen: np.ndarray) -> np.ndarray:
        """(C, M) chosen free pixels that APR labels at each point."""
        shape = len(cosines) + 1, len(margins) + 1
        index = passed_cosines[chosen] * shape[1] + passed_margins[chosen]
        counts = np.bincount(index, minlength=shape[0] * shape[1]).reshape(shape)
        return np.asarray(counts[::-1, ::-1].cumsum(axis=0).cumsum(axis=1)[::-1, ::-1][1:, 1:])

    total = np.zeros((len(cosines), len(margins)))
    for k in case.scored:
        labelled, shown = judged & (mask == k), case.truth == k
        hits = np.count_nonzero(labelled & shown) + passing((label == k) & (truth == k))
        false = np.count_nonzero(labelled & ~shown) + passing((label == k) & (truth != k))
        total += hits / (np.count_nonzero(shown) + false)
    return total / len(case.scored)
