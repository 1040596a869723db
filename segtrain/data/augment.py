"""Random scale, crop, flip and colour, the same for all that belongs to one sample.

All numbers are drawn from the generator that is passed in, once a sample; torchvision's own random transforms draw from
torch's global one, so its functional half is used. Masks and confidences are only ever resampled by nearest neighbour;
what lies outside the image is ignored (255) and has no confidence (0).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from segkit.labels import IGNORE
from segtrain.config import DataSettings
from segtrain.data.photometric import PhotometricDistortion
from segtrain.data.samplers import Wanted


@dataclasses.dataclass(frozen=True, slots=True)
class Crop:
    """`image` (3, crop, crop), `target` and `confidence` (crop, crop), `original` like (image, target); all uint8."""

    image: torch.Tensor
    target: torch.Tensor
    confidence: torch.Tensor | None = None
    original: tuple[torch.Tensor, torch.Tensor] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Jitter:
    """Factors of brightness, contrast and saturation."""

    brightness: float
    contrast: float
    saturation: float

    def apply(self, pixels: torch.Tensor) -> torch.Tensor:
        """(3, h, w) uint8 to the same."""
        pixels = functional.adjust_brightness_image(pixels, self.brightness)
        pixels = functional.adjust_contrast_image(pixels, self.contrast)
        return functional.adjust_saturation_image(pixels, self.saturation)


@dataclasses.dataclass(frozen=True, slots=True)
class Draw:
    """What is done to a sample: a window, resized, recoloured, flipped, put into the crop with margins around it."""

    top: int
    left: int
    height: int
    width: int
    size: tuple[int, int]
    colours: Jitter | PhotometricDistortion | None
    flip: bool
    margins: tuple[int, int, int, int]  # left, top, right, bottom

    def picture(self, image: np.ndarray) -> torch.Tensor:
        """(H, W, 3) uint8 to (3, crop, crop) uint8."""
        pixels = self._window(image.transpose(2, 0, 1), InterpolationMode.BILINEAR)
        if self.colours:
            pixels = self.colours.apply(pixels)
        return self._placed(pixels, 0)

    def map(self, values: np.ndarray, outside: int) -> torch.Tensor:
        """(H, W) uint8 to (crop, crop) uint8, with the value `outside` around it."""
        return self._placed(self._window(values[None], InterpolationMode.NEAREST_EXACT), outside)[0]

    def _window(self, channels: np.ndarray, interpolation: InterpolationMode) -> torch.Tensor:
        window = channels[:, self.top : self.top + self.height, self.left : self.left + self.width]
        pixels = torch.from_numpy(np.ascontiguousarray(window))
        if self.size == (self.height, self.width):
            return pixels
        smooth = interpolation == InterpolationMode.BILINEAR
        if smooth and self.size == (1, 1):  # where torch's kernel for uint8 fails on an assertion
            return pixels.float().mean(dim=(1, 2), keepdim=True).round().to(torch.uint8)
        return functional.resize_image(pixels, list(self.size), interpolation=interpolation, antialias=smooth)

    def _placed(self, pixels: torch.Tensor, outside: int) -> torch.Tensor:
        if self.flip:
            pixels = pixels.flip(-1)
        return functional.pad_image(pixels, list(self.margins), fill=outside) if any(self.margins) else pixels


def draw(shape: tuple[int, ...], rng: np.random.Generator, config: DataSettings) -> Draw:
    """For an image of that height and width. The window is cut out first and resized then, so the cost does not grow
    with the image.
    """
    crop = config.crop_px
    scale = math.exp(rng.uniform(math.log(config.scale_min), math.log(config.scale_max)))
    side = max(1, round(crop / scale))
    height, width = (min(length, side) for length in shape)
    top, left = int(rng.integers(shape[0] - height + 1)), int(rng.integers(shape[1] - width + 1))
    size = (max(1, min(crop, round(height * crop / side))), max(1, min(crop, round(width * crop / side))))
    colours: Jitter | PhotometricDistortion | None = None
    if config.photometric:
        colours = PhotometricDistortion.draw(rng)
    elif config.jitter:
        colours = Jitter(*rng.uniform(1 - config.jitter, 1 + config.jitter, size=3).tolist())
    flip = bool(rng.random() < config.flip)
    margins = (0, 0, 0, 0)
    if size != (crop, crop):
        above, before = int(rng.integers(crop - size[0] + 1)), int(rng.integers(crop - size[1] + 1))
        margins = (before, above, crop - size[1] - before, crop - size[0] - above)
    return Draw(top, left, height, width, size, colours, flip, margins)


def augment(
    image: np.ndarray,
    target: np.ndarray,
    rng: np.random.Generator,
    config: DataSettings,
    confidence: np.ndarray | None = None,
    original: tuple[np.ndarray, np.ndarray] | None = None,
    wanted: Wanted | None = None,
) -> Crop:
    """Image (H, W, 3), target and confidence (H, W), original (image, target), all uint8: one draw for all.

    The numbers drawn do not depend on whether there is a confidence or an original. If a class is wanted, draws are
    repeated until the crop shows it.
    """
    drawn = draw(target.shape, rng, config)
    crop = drawn.map(target, IGNORE)
    for _ in range(wanted.attempts - 1 if wanted else 0):
        if wanted is None or (crop == wanted.channel).float().mean() > wanted.min_share:
            break
        drawn = draw(target.shape, rng, config)
        crop = drawn.map(target, IGNORE)
    return Crop(
        drawn.picture(image),
        crop,
        None if confidence is None else drawn.map(confidence, 0),
        None if original is None else (drawn.picture(original[0]), drawn.map(original[1], IGNORE)),
    )
