"""PhotoMetricDistortion of mmsegmentation: the strong colour jitter that the trainers of domain generalisation share.

Each of brightness, contrast, saturation and hue happens in half of the pictures; contrast comes before saturation and
hue in one half of them, after in the other. As there, pixels are rounded and cut to 0..255 after each step.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from PIL import Image

_BRIGHTNESS = 32.0  # of 255
_FACTORS = (0.5, 1.5)
_HUE_DEGREES = 36.0  # 18 of the 180 that OpenCV has


@dataclasses.dataclass(frozen=True, slots=True)
class PhotometricDistortion:
    """One draw of it; what does not happen has the value that changes nothing."""

    brightness: float = 0.0  # added, of 255
    contrast: float = 1.0
    saturation: float = 1.0
    hue_degrees: float = 0.0
    contrast_first: bool = True

    @classmethod
    def draw(cls, rng: np.random.Generator) -> PhotometricDistortion:
        """Takes seven to nine numbers from the generator: those of a brightness and of a hue only if they happen."""
        happens = rng.random(4) < 0.5
        contrast, saturation = (float(factor) for factor in rng.uniform(*_FACTORS, size=2))
        return cls(
            float(rng.uniform(-_BRIGHTNESS, _BRIGHTNESS)) if happens[0] else 0.0,
            contrast if happens[1] else 1.0,
            saturation if happens[2] else 1.0,
            float(rng.uniform(-_HUE_DEGREES, _HUE_DEGREES)) if happens[3] else 0.0,
            bool(rng.random() < 0.5),
        )

    def apply(self, pixels: torch.Tensor) -> torch.Tensor:
        """(3, h, w) uint8 RGB to the same."""
        image = pixels.numpy().transpose(1, 2, 0)
        image = _affine(image, 1.0, self.brightness)
        if self.contrast_first:
            image = _affine(image, self.contrast, 0.0)
        image = self._saturation_and_hue(image)
        if not self.contrast_first:
            image = _affine(image, self.contrast, 0.0)
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))

    def _saturation_and_hue(self, image: np.ndarray) -> np.ndarray:
        if self.saturation == 1 and self.hue_degrees == 0:
            return image
        hsv = np.array(Image.fromarray(np.ascontiguousarray(image)).convert("HSV"))
        hsv[..., 1] = _affine(hsv[..., 1], self.saturation, 0.0)
        hsv[..., 0] += np.uint8(round(self.hue_degrees / 360 * 256) % 256)  # hue is a circle, and so is a byte
        return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))


def _affine(values: np.ndarray, factor: float, offset: float) -> np.ndarray:
    if factor == 1 and offset == 0:
        return values
    return np.clip(np.rint(values * np.float32(factor) + np.float32(offset)), 0, 255).astype(np.uint8)
