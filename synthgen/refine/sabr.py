"""SABR, SAM-assisted boundary refinement (Syn4Seg):

a box-prompted mask decoder redraws the edges of a mask, and nothing but the edges.

The paper writes back only in (boundary band U unlabelled) pixels. The exact rule is not published; this is the one used
here:

    editable(r)   = (band(r) U unlabelled) and inside the padded box of region r
    SAM = 1       on editable(r)                             -> class of r
    SAM = 0       on band(r), where the label comes from r   -> background (unlabelled in label spaces without one)
    two claims    on a pixel                                 -> the higher predicted IoU; on a tie the region that
    comes first
    IoU(SAM, r) < min_agreement                              -> r is left alone: SAM has latched on to something else

    sure of it    where the proposer is (`refine.sabr.max_probability`) -> a labelled pixel stays as it is

So: a labelled pixel outside every band never changes, an unlabelled pixel is never called background, and a class never
appears outside the padded box of one of its regions.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from segkit.labels import IGNORE
from segkit.regions import Components, connected_components, drop_small
from synthgen.refine.regions import boundary_band, box_window, padded_boxes


@dataclasses.dataclass(frozen=True, slots=True)
class BoxPrompts:
    """The regions of a mask that the mask decoder is asked about, and their boxes."""

    regions: Components
    boxes: np.ndarray  # (N, 4) float32 XYXY, padded and clipped


def box_prompts(mask: np.ndarray, *, background: int | None, min_region_px: int, box_padding: float) -> BoxPrompts:
    """One padded box for each foreground component of at least `min_region_px` pixels of a mask (H, W) uint8 (SABR,
    step 1).
    """
    regions = drop_small(connected_components(mask, exclude=() if background is None else (background,)), min_region_px)
    return BoxPrompts(regions, padded_boxes(regions.boxes, box_padding, (mask.shape[0], mask.shape[1])))


def agreement(region: np.ndarray, sam_mask: np.ndarray) -> float:
    """IoU of two (H, W) bool masks; 0 if both are empty."""
    union = np.count_nonzero(region | sam_mask)
    return np.count_nonzero(region & sam_mask) / union if union else 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Refined:
    """What SABR gives."""

    mask: np.ndarray  # (H, W) uint8
    sam_iou: np.ndarray  # (H, W) float32: predicted IoU of the SAM mask that changed this pixel, NaN where none did


def sam_confidence(confidence: np.ndarray, refined: Refined) -> np.ndarray:
    """A confidence map (H, W) uint8 with SAM's own score where SAM has decided: a cosine margin knows nothing of the
    edges that SAM has moved. 0 stays where the mask is unlabelled, elsewhere at least 1.
    """
    changed = np.isfinite(refined.sam_iou) & (refined.mask != IGNORE)
    scored = confidence.copy()
    scored[changed] = np.clip(np.rint(255 * refined.sam_iou[changed]), 1, 255).astype(np.uint8)
    return scored


def boundary_refine(
    mask: np.ndarray,
    prompts: BoxPrompts,
    sam_masks: np.ndarray,
    sam_ious: np.ndarray,
    *,
    band_px: int,
    min_agreement: float,
    background: int | None,
    sure: np.ndarray | None = None,
) -> Refined:
    """The mask after the update rule above (SABR, steps 2 and 3); the input is not changed.

    mask (H, W) uint8 that `prompts` was made from; sam_masks (N, H, W) bool and sam_ious (N,), one for each box; sure
    (H, W) bool, labelled pixels that stay as they are wherever they lie.
    """
    unlabelled = mask == IGNORE
    open_to_sam = np.ones(mask.shape, bool) if sure is None else unlabelled | ~sure
    claimed_by = np.zeros(mask.shape, np.int32)  # region number, 0 = nobody
    claim_iou = np.full(mask.shape, -np.inf)
    clear_iou = np.full(mask.shape, -np.inf)
    for number, (box, sam_mask, iou) in enumerate(zip(prompts.boxes, sam_masks, sam_ious, strict=True), start=1):
        window = box_window(box)
        region = prompts.regions.index == number
        if agreement(region, sam_mask) < min_agreement:
            continue
        band = _band_in(region, window, band_px)
        inside = sam_mask[window]
        claim = (band | unlabelled[window]) & open_to_sam[window] & inside & (iou > claim_iou[window])
        claimed_by[window][claim] = number
        claim_iou[window][claim] = iou
        clear = band & open_to_sam[window] & ~inside & region[window]
        clear_iou[window][clear] = iou  # regions do not overlap: a pixel is cleared by its own region alone
    cleared = clear_iou > -np.inf
    refined = mask.copy()
    refined[cleared] = IGNORE if background is None else background
    claimed = claimed_by > 0
    refined[claimed] = prompts.regions.class_ids[claimed_by[claimed] - 1]
    decided = np.where(claimed, claim_iou, clear_iou)
    return Refined(refined, np.where(refined != mask, decided, np.nan).astype(np.float32))


def _band_in(region: np.ndarray, window: tuple[slice, slice], band_px: int) -> np.ndarray:
    """The boundary band of a region, cut to a window that holds the region.

    Computed on the surroundings of the window only.
    """
    rows, columns = window
    # One pixel more than the window, so that the edge of a region that fills it is still seen as an edge.
    top, left = max(rows.start - 1, 0), max(columns.start - 1, 0)
    around = region[top : rows.stop + 1, left : columns.stop + 1]
    band = boundary_band(around, band_px)
    return band[rows.start - top :, columns.start - left :][: rows.stop - rows.start, : columns.stop - columns.start]
