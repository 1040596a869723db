"""Gate `sam_agreement` (CG-Aug, MultiShiftSeg, appendix A.2): SAM, asked for the pasted object by its tight box, must
find it; then its mask replaces the pasted one, so that the label follows the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synthgen.models import MaskDecoder, MaskPrompts
from synthgen.render.verdict import Verdict


class SamAgreement:
    """Asks a mask decoder."""

    def __init__(self, decoder: MaskDecoder, min_iou: float) -> None:
        self._decoder, self._min_iou = decoder, min_iou

    def judge(self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> list[Verdict]:
        """Of each image (H, W, 3) uint8 with its pasted object (H, W) bool: refused as `sam_disagrees` unless
        IoU(SAM, pasted) > min_iou.
        """
        prompts = [MaskPrompts(tight_box(mask)[None]) for mask in masks]
        verdicts = []
        for (found, _), mask in zip(self._decoder.decode(images, prompts), masks, strict=True):
            agreement = iou(found[0], mask)
            if agreement > self._min_iou:
                verdicts.append(Verdict(agreement, found[0]))
            else:
                detail = f"IoU {agreement:.3f} of SAM's mask and the pasted one, must be above {self._min_iou:g}"
                verdicts.append(Verdict(agreement, mask, "sam_disagrees", detail))
        return verdicts


def tight_box(mask: np.ndarray) -> np.ndarray:
    """(4,) float32 XYXY around the pixels of a mask (H, W) bool, which has one; right and bottom are beyond them."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks (H, W) bool; 0 if both are empty."""
    union = int(np.count_nonzero(one | other))
    return int(np.count_nonzero(one & other)) / union if union else 0.0
