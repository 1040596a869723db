"""How well an uncertainty finds what the network does not know: AUROC, AP and FPR at 95 % recall over pooled pixels.

Unknown pixels (254) are the positives, pixels of a class the negatives; unlabelled ones (255) count for nothing. The
pixels of all images of a set are pooled before anything is computed: a mean over images gives other numbers. Memory
does not grow with their number: scores are counted in bins that are as narrow as 1/32768 of the score itself.

FPR at 95 % recall has two rules, and a number without its rule means little:

first     the highest threshold whose recall is at least 0.95
nearest   the threshold whose recall is nearest to 0.95, be it below (the rule of MultiShiftSeg's and most others'
          code); of several that are as near the lowest one
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION

Rule = Literal["first", "nearest"]
RULES: tuple[Rule, ...] = ("first", "nearest")
RECALL = 0.95
CONVENTION = "pixels of all images pooled, unknown (254) = positive, unlabelled (255) excluded"
_DROPPED_BITS = 8  # of a float32: sign, exponent and 15 bits of the mantissa are left, 16 million bins
_BINS = 2 ** (32 - _DROPPED_BITS)


@dataclasses.dataclass(frozen=True, slots=True)
class AnomalyScores:
    """All in 0..1 but `threshold`, the uncertainty from which on a pixel is called unknown; None where there is no
    unknown or no known pixel. `rule` says how `fpr95` and `threshold` were chosen."""

    auroc: float | None
    ap: float | None
    fpr95: float | None
    threshold: float | None
    rule: Rule
    unknown_pixels: int
    known_pixels: int


class ScoreHistogram:
    """Uncertainties of known and unknown pixels, gathered picture by picture.

    At most 256 MB whatever their number, and a tenth of it where scores lie within a few powers of two: the system
    gives a page of zeros memory when something is counted there.
    """

    def __init__(self) -> None:
        self.known, self.unknown = np.zeros(_BINS, dtype=np.int64), np.zeros(_BINS, dtype=np.int64)
        """Pixels in each bin, in the order of their uncertainty."""

    def add(self, uncertainty: np.ndarray, truth: np.ndarray) -> None:
        """(H, W) float, high = unknown, and (H, W) uint8 ids.

        Raises ValueError if the shapes differ, or at an uncertainty that is not a number.
        """
        if uncertainty.shape != truth.shape:
            raise ValueError(f"uncertainty {uncertainty.shape} and truth {truth.shape} are not of one shape")
        labelled = truth != IGNORE
        scores = uncertainty[labelled].astype(np.float32)
        if np.isnan(scores).any():
            raise ValueError("an uncertainty is not a number")
        bins, unknown = _bin_of(scores), truth[labelled] == OUT_OF_DISTRIBUTION
        for counts, chosen in ((self.known, bins[~unknown]), (self.unknown, bins[unknown])):
            occupied, pixels = np.unique(chosen, return_counts=True)
            counts[occupied] += pixels

    def scores(self, rule: Rule = "first") -> AnomalyScores:
        """All scores. Pixels of one bin are ties, as equal scores are."""
        num_unknown, num_known = int(self.unknown.sum()), int(self.known.sum())
        if not num_unknown or not num_known:
            return AnomalyScores(None, None, None, None, rule, num_unknown, num_known)
        bins, hits, alarms = self._curve()
        recall, false_rate = hits / num_unknown, alarms / num_known
        gained = np.diff(recall, prepend=0.0)
        below = (np.concatenate([[0.0], recall[:-1]]) + recall) / 2
        chosen = place_of_recall(recall, rule)
        return AnomalyScores(
            auroc=float(np.sum(np.diff(false_rate, prepend=0.0) * below)),
            ap=float(np.sum(gained * (hits / (hits + alarms)))),
            fpr95=float(false_rate[chosen]),
            threshold=_lowest_of(int(bins[chosen])),
            rule=rule,
            unknown_pixels=num_unknown,
            known_pixels=num_known,
        )

    def best_f1_threshold(self) -> float:
        """The threshold at which the F1 of pixels is greatest. Raises ValueError if no pixel is unknown."""
        num_unknown = int(self.unknown.sum())
        if not num_unknown:
            raise ValueError("no pixel is unknown")
        bins, hits, alarms = self._curve()
        return _lowest_of(int(bins[np.argmax(2 * hits / (hits + alarms + num_unknown))]))

    def alarm_share(self, threshold: float) -> float | None:
        """Share of the known pixels whose uncertainty is in the bin of `threshold` or above; None if there is none.

        With the threshold of a set that shows unknown objects by day, of a set of bad weather without any: how often
        weather alone is taken for an object.
        """
        total = int(self.known.sum())
        first = int(_bin_of(np.array([threshold], dtype=np.float32))[0])
        return int(self.known[first:].sum()) / total if total else None

    def quantile(self, share: float) -> float:
        """The least uncertainty with at least `share` (0..1) of all pixels in its bin or below. Raises ValueError if
        there is no pixel."""
        bins = self._occupied()
        if not len(bins):
            raise ValueError("no pixel is labelled")
        sums = np.cumsum(self.known[bins] + self.unknown[bins])
        return _lowest_of(int(bins[np.searchsorted(sums, share * sums[-1])]))

    def _curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The bins that occur, from the highest down, and how many unknown and known pixels lie in each or above."""
        bins = self._occupied()[::-1]
        return bins, np.cumsum(self.unknown[bins]), np.cumsum(self.known[bins])

    def _occupied(self) -> np.ndarray:
        """Bins that some pixel is in, ascending."""
        return np.union1d(np.flatnonzero(self.known), np.flatnonzero(self.unknown))


def place_of_recall(recall: np.ndarray, rule: Rule) -> int:
    """Which of the thresholds, whose recalls (N,) ascend to 1, is that of 95 % recall."""
    if rule == "first":
        return int(np.argmax(recall >= RECALL))
    useful = recall[: int(np.argmax(recall == recall[-1])) + 1]  # past full recall only alarms are added
    lowest_first = np.abs(useful[::-1] - RECALL)
    return len(useful) - 1 - int(np.argmin(lowest_first))


def _bin_of(scores: np.ndarray) -> np.ndarray:
    """int64 bins of (N,) float32, ascending with the score: the order of IEEE floats is that of their bits, but for the
    sign."""
    bits = (scores + np.float32(0)).view(np.uint32)  # -0 is 0
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(2**31))
    return (ordered >> _DROPPED_BITS).astype(np.int64)


def _lowest_of(number: int) -> float:
    """The lowest score of a bin."""
    ordered = np.uint32(number << _DROPPED_BITS)
    bits = ordered & np.uint32(2**31 - 1) if ordered >> 31 else ~ordered
    return float(np.array([bits], dtype=np.uint32).view(np.float32)[0])
