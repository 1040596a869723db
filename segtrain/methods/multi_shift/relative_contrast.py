"""The relative contrastive loss (MultiShiftSeg, eq. 4): three hinges between three kinds of pixels.

u is the uncertainty of a pixel; o are unknown pixels (254) of both halves of a batch, i known pixels of the originals,
c known pixels of the augmented pictures:

    mean relu(u_i + l1 - u_o)      unknown lies l1 above known
  + mean relu(u_c + l2 - u_o)      and l2 above known in bad weather
  + mean relu(u_c - u_i - l3)      which may lie up to l3 above the same pixel by day

The third has its sign from the released code and from the paper's words. Equation 4 as printed expands to
relu(l3 + u_c - u_i): it would ask bad weather to be *less* uncertain than day, by l3.

The first two pair pixels at random, the third pixel by pixel. Unlabelled pixels (255) are in none. A hinge without
pixels is 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from segkit.labels import OUT_OF_DISTRIBUTION
from segtrain.losses import mean_or_zero


@dataclasses.dataclass(frozen=True, slots=True)
class Margins:
    """l1, l2 and l3 in units of uncertainty. Every published triple has l1 = l2 + l3: a pixel in bad weather that uses
    up its l3 stays just l2 below an unknown one that keeps its l1."""

    unknown_over_original: float
    unknown_over_augmented: float
    augmented_over_original: float

    def as_tuple(self) -> tuple[float, float, float]:
        return self.unknown_over_original, self.unknown_over_augmented, self.augmented_over_original


@dataclasses.dataclass(frozen=True, slots=True)
class Half:
    """One half of a batch: `uncertainty` (B, H, W) float, `targets` (B, H, W) of channels, 254 and 255."""

    uncertainty: torch.Tensor
    targets: torch.Tensor

    @property
    def known(self) -> torch.Tensor:
        """(B, H, W) bool."""
        return self.targets < OUT_OF_DISTRIBUTION

    @property
    def unknown(self) -> torch.Tensor:
        return self.targets == OUT_OF_DISTRIBUTION


def relative_contrast(original: Half, augmented: Half, margins: Margins) -> dict[str, torch.Tensor]:
    """The three hinges by name, scalars with gradients; their sum is the loss. Changes no argument.

    n = min(#i, #c, #o) pixels are drawn of each kind (an empty kind of known pixels does not count), with torch's
    global generator.
    """
    unknown = torch.cat([half.uncertainty[half.unknown] for half in (original, augmented)])
    by_day, by_weather = original.uncertainty[original.known], augmented.uncertainty[augmented.known]
    count = min([len(unknown), *(len(known) for known in (by_day, by_weather) if len(known))])
    unknown = _drawn(unknown, count)
    both = original.known & augmented.known
    rise = augmented.uncertainty[both] - original.uncertainty[both]
    return {
        "unknown_over_original": _hinge(_drawn(by_day, count), unknown, margins.unknown_over_original),
        "unknown_over_augmented": _hinge(_drawn(by_weather, count), unknown, margins.unknown_over_augmented),
        "augmented_over_original": mean_or_zero(torch.relu(rise - margins.augmented_over_original)),
    }


def pooled_contrast(halves: Sequence[Half], margin: float) -> dict[str, torch.Tensor]:
    """The loss before this paper's: known pixels are one kind, by day or in bad weather, and lie `margin` below the
    unknown ones."""
    unknown = torch.cat([half.uncertainty[half.unknown] for half in halves])
    known = torch.cat([half.uncertainty[half.known] for half in halves])
    count = min(len(unknown), len(known))
    return {"unknown_over_known": _hinge(_drawn(known, count), _drawn(unknown, count), margin)}


def _drawn(values: torch.Tensor, count: int) -> torch.Tensor:
    """`count` of (N,) values without repetition, or all if there are fewer, in random order."""
    return values[torch.randperm(len(values), device=values.device)[:count]]


def _hinge(known: torch.Tensor, unknown: torch.Tensor, margin: float) -> torch.Tensor:
    """Mean over pairs of relu(u_known + margin - u_unknown); 0 without pairs."""
    pairs = min(len(known), len(unknown))
    return mean_or_zero(torch.relu(known[:pairs] + margin - unknown[:pairs]))
