"""The strong view of a picture: what the student sees where the teacher has seen the plain one.

Colours alone change, never the place of a pixel, so the teacher's answer holds for both views.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import torch
from torchvision.transforms.v2 import functional

from segtrain.data.photometric import PhotometricDistortion

StudentView = Literal["same", "photometric", "strong"]

_GREY = 0.2  # UniMatch, code: share of the pictures that lose their colours
_BLUR = 0.5  # UniMatch, code: share that is blurred
_SIGMA = (0.1, 2.0)  # UniMatch, code: of the blur, in pixels


@dataclasses.dataclass(frozen=True, slots=True)
class StrongView:
    """One draw of it; what does not happen has the value that changes nothing."""

    colours: PhotometricDistortion = dataclasses.field(default_factory=PhotometricDistortion)
    grey: bool = False
    sigma_px: float = 0.0  # of a Gaussian blur; 0 = none

    @classmethod
    def draw(cls, kind: StudentView, rng: np.random.Generator) -> StrongView:
        """`photometric` = PhotoMetricDistortion (CLOUDS: SSD's jitter); `strong` = that, grey and blur (UniMatch).

        Takes the same numbers from the generator whatever the kind.
        """
        colours = PhotometricDistortion.draw(rng)
        grey, blur, sigma = rng.random() < _GREY, rng.random() < _BLUR, float(rng.uniform(*_SIGMA))
        if kind == "same":
            return cls()
        if kind == "photometric":
            return cls(colours)
        return cls(colours, bool(grey), sigma if blur else 0.0)

    def apply(self, pixels: torch.Tensor) -> torch.Tensor:
        """(3, h, w) uint8 RGB to the same."""
        pixels = self.colours.apply(pixels)
        if self.grey:
            pixels = functional.rgb_to_grayscale_image(pixels, 3)
        if self.sigma_px:
            side = 2 * max(1, round(3 * self.sigma_px)) + 1
            reach = (min(pixels.shape[-2:]) - 1) * 2 + 1  # torch mirrors the border, which is only so wide
            pixels = functional.gaussian_blur_image(pixels, [min(side, reach)] * 2, [self.sigma_px] * 2)
        return pixels
