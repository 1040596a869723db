"""APE, adaptive pseudo-label enhancement (Syn4Seg):

filter the regions of a coarse mask (APF), then relabel what was freed (APR).

The paper calls both thresholds lambda; they are different quantities and have different names here (`lambda_apf`, and
`lambda_div` of the prompt bank).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION
from segkit.regions import connected_components
from synthgen.models import Proposal, Prototypes
from synthgen.models.cosine_maps import best_per_class, confidence_of_margin, cosine_maps, two_best
from synthgen.refine.prototypes import masked_average, normalise, pixels_per_cell


@dataclasses.dataclass(frozen=True, slots=True)
class Filtered:
    """What APF gives."""

    mask: np.ndarray  # (H, W) uint8: freed regions are 255
    num_regions: int
    num_kept: int
    similarity: float  # area-weighted mean of s(r) over kept regions; -1 if none was kept
    class_ids: np.ndarray  # (num_regions,) int64, like the next two: class of each region
    scores: np.ndarray  # float32, s(r); -inf for a class without a prototype
    kept: np.ndarray  # bool


def filter_regions(
    mask: np.ndarray,
    features: np.ndarray,
    prototypes: Prototypes,
    *,
    lambda_apf: float,
    min_region_px: int,
    background: int | None,
    enabled: bool = True,
) -> Filtered:
    """APF: free (mark 255) every foreground region that is small or unlike the support prototype of its class.

    v(r) = normalised mean feature over region r; s(r) = v(r) . mu_k (the best row of k if it has several); r is kept
    iff s(r) >= lambda_apf and it has at least `min_region_px` pixels. mask (H, W) uint8, features (h, w, D). The
    background is no region: it is kept as it is. A region whose class has no prototype is freed. Not `enabled`, every
    region is kept; s(r) is measured all the same.
    """
    # an object of no known class (254) has no prototype to be compared with: it stays as it is
    exclude = (OUT_OF_DISTRIBUTION,) if background is None else (OUT_OF_DISTRIBUTION, background)
    regions = connected_components(mask, exclude=exclude)
    if not len(regions):
        return Filtered(mask.copy(), 0, 0, -1.0, regions.class_ids, np.zeros(0, np.float32), np.zeros(0, bool))
    means = masked_average(features, regions.index - 1, len(regions))
    cosines = means @ prototypes.vectors.T
    same_class = regions.class_ids[:, None] == np.asarray(prototypes.ids)[None, :]
    scores = np.where(same_class, cosines, -np.inf).max(axis=1, initial=-np.inf)
    keep = (scores >= lambda_apf) & (regions.areas_px >= min_region_px) if enabled else np.ones(len(regions), bool)
    freed = np.concatenate([[False], ~keep])[regions.index]
    measured = keep & np.isfinite(scores)
    areas = regions.areas_px[measured]
    similarity = float(np.average(scores[measured], weights=areas)) if measured.any() else -1.0
    filtered = np.where(freed, np.uint8(IGNORE), mask)
    return Filtered(filtered, len(regions), int(keep.sum()), similarity, regions.class_ids, scores, keep)


def adapted_prototypes(mask: np.ndarray, features: np.ndarray, prototypes: Prototypes, beta: float) -> Prototypes:
    """mu~_k(x) = beta mu_k + (1 - beta) mu_k(x), renormalised: support prototypes moved towards image x (APR, step 1).

    mu_k(x) is the normalised mean feature of the trusted pixels of class k, those that `mask` (H, W) labels k. A class
    without a trusted pixel keeps its support prototype (beta = 1). Of a class with several rows (background), each cell
    moves only the row that it is most like.
    """
    height, width, depth = features.shape
    flat = features.reshape(-1, depth)
    classes = tuple(dict.fromkeys(prototypes.ids))
    group = np.full(256, -1, np.int16)
    group[list(classes)] = np.arange(len(classes))
    trusted = pixels_per_cell(group[mask], len(classes), (height, width))
    owners = np.asarray(prototypes.ids)
    moved = prototypes.vectors.copy()
    for class_id, weights in zip(classes, trusted, strict=True):
        rows = np.flatnonzero(owners == class_id)
        closest = np.argmax(flat @ prototypes.vectors[rows].T, axis=1)
        own = normalise(np.stack([(weights * (closest == n)) @ flat for n in range(len(rows))]))
        seen = own.any(axis=1)
        moved[rows[seen]] = normalise(beta * prototypes.vectors[rows[seen]] + (1 - beta) * own[seen])
    return Prototypes(prototypes.ids, moved)


@dataclasses.dataclass(frozen=True, slots=True)
class ClassCosines:
    """How much each pixel looks like each candidate class of an image. K = 0 is possible:

    all other arrays are then of no use.
    """

    class_ids: np.ndarray  # (K,) uint8
    cosines: np.ndarray  # (K, H, W) float32, to the best prototype of the class
    best: np.ndarray  # (H, W) uint8, row of the highest
    top: np.ndarray  # (H, W) float32, the highest
    second: np.ndarray  # (H, W) float32, the highest of any other class; -inf where K = 1


def class_cosines(features: np.ndarray, prototypes: Prototypes, size: tuple[int, int]) -> ClassCosines:
    """Cosines of features (h, w, D) to prototypes, upsampled to `size` (H, W)."""
    if not prototypes.ids:
        nothing = np.zeros((0, *size), np.float32)
        return ClassCosines(
            np.zeros(0, np.uint8),
            nothing,
            np.zeros(size, np.uint8),
            np.zeros(size, np.float32),
            np.zeros(size, np.float32),
        )
    class_ids, cosines = best_per_class(cosine_maps(features, prototypes.vectors, size), prototypes.ids)
    return ClassCosines(class_ids.astype(np.uint8), cosines, *two_best(cosines))


def relabel(mask: np.ndarray, looks: ClassCosines, *, min_cosine: float, min_margin: float) -> np.ndarray:
    """APR: label a free pixel p with argmax_k cos(f(p), mu~_k) where that is sure enough, else leave it 255.

    Returns a new mask.

    Free pixels are those that are 255 in `mask` (H, W): freed by APF, or left open by the proposer. Sure enough: the
    best cosine reaches `min_cosine` and leads the best of any other class by `min_margin`. `looks` belongs to the
    adapted prototypes of the image's candidates.
    """
    if not len(looks.class_ids):
        return mask.copy()
    sure = (mask == IGNORE) & (looks.top >= min_cosine) & (looks.top - looks.second >= min_margin)
    return np.where(sure, looks.class_ids[looks.best], mask)


def filled_fraction(coarse: np.ndarray, filtered: np.ndarray, relabelled: np.ndarray) -> float:
    """Share of the pixels freed by APF that APR labelled again; 1 if none was freed."""
    freed = (filtered == IGNORE) & (coarse != IGNORE)
    return float((relabelled[freed] != IGNORE).mean()) if freed.any() else 1.0


def confidence_map(mask: np.ndarray, looks: ClassCosines, proposal: Proposal | None = None) -> np.ndarray:
    """(H, W) uint8, 0..255 = 0..1: how far each pixel's label leads the other candidates.

    sigmoid(m / CONFIDENCE_SCALE), m = cosine to the label's class minus the best cosine to another class; 128 is a tie,
    less means that another class looks likelier. At least 1 where there is a label, 0 where `mask` is 255; 255 where no
    other candidate exists. A label that is not among the candidates counts as a tie. With a `proposal`, a label that
    is still the proposer's has its score as confidence, where it tells one (above 0) [ours].
    """
    row_of = np.full(256, -1, np.int16)
    row_of[looks.class_ids] = np.arange(len(looks.class_ids))
    row = row_of[mask]
    confidence = np.full(mask.shape, 128, np.uint8)
    if len(looks.class_ids):
        own = np.take_along_axis(looks.cosines, np.maximum(row, 0)[None], axis=0)[0]
        margin = own - np.where(row == looks.best, looks.second, looks.top)
        share = np.maximum(1, np.rint(255 * confidence_of_margin(margin)))
        confidence = np.where(row >= 0, share, 128).astype(np.uint8)
    if proposal is not None:
        scored = np.clip(np.rint(255 * proposal.score), 1, 255)
        told = (mask == proposal.mask) & (proposal.score > 0)
        confidence = np.where(told, scored, confidence).astype(np.uint8)
    confidence[mask == IGNORE] = 0
    return confidence
