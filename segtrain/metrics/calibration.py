"""How far a confidence can be believed (Guo et al. 2017, eq. 3)."""

from __future__ import annotations

import numpy as np


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> float | None:
    """Mean over pixels of |share that is right - mean confidence| of the pixel's bin; None of no pixel.

    confidence: any shape, 0..1; correct: the same shape, bool. Bins are of equal width, with their upper edge.
    """
    confidence, correct = np.asarray(confidence, float).ravel(), np.asarray(correct, bool).ravel()
    if confidence.shape != correct.shape:
        raise ValueError(f"{confidence.size} confidences and {correct.size} answers")
    if not confidence.size:
        return None
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(number, correct, minlength=bins) - np.bincount(number, confidence, minlength=bins)
    return float(np.abs(gaps).sum() / confidence.size)
