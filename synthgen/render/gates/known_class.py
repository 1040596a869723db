"""Gate `known_class` (CG-Aug, MultiShiftSeg, appendix A.2): what a segmenter takes for a known class is no unknown
object, whatever was asked of the generator.

The authors ask for a mean energy -logsumexp(scores) of at least -3.02 over 19 scores in [0, 1]; that is a likeliest
class at 0.91 where all others are near 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from synthgen.render.verdict import Verdict


@runtime_checkable
class KnowsClasses(Protocol):
    """The proposer `segmenter`, or one that gives the same."""

    def known_probabilities(self, image: np.ndarray) -> np.ndarray:
        """(H, W) float32: the probability of the likeliest known class at each pixel of (H, W, 3) uint8."""
        ...


class KnownClass:
    """Asks a segmenter."""

    def __init__(self, segmenter: KnowsClasses, max_probability: float) -> None:
        self._segmenter, self._max = segmenter, max_probability

    def judge(self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> list[Verdict]:
        """Of each image with its object (H, W) bool: refused as `known_object` if the mean over the object of the
        likeliest known class's probability is above max_probability.
        """
        verdicts = []
        for image, mask in zip(images, masks, strict=True):
            probability = float(self._segmenter.known_probabilities(image)[mask].mean())
            if probability <= self._max:
                verdicts.append(Verdict(probability, mask))
            else:
                detail = f"a known class at {probability:.3f} on the object, at most {self._max:g}"
                verdicts.append(Verdict(probability, mask, "known_object", detail))
        return verdicts
