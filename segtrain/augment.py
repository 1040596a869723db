"""Random scale, crop, flip and colour on an image and its mask together.

All numbers are drawn from the generator that is passed in; torchvision's own random transforms draw from torch's global
one, so its functional half is used. A mask is only ever resampled by nearest neighbour, and what lies outside the image
is ignored (255).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from segtrain.config import LoopConfig
from segtrain.labels import IGNORE


def augment(
    image: np.ndarray, mask: np.ndarray, rng: np.random.Generator, config: LoopConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Image (H, W, 3) uint8 and mask (H, W) uint8 to tensors (3, crop, crop) uint8 and (crop, crop) uint8.

    The window is cut out first and resized then, so the cost does not grow with the image.
    """
    crop = config.crop_px
    scale = math.exp(rng.uniform(math.log(config.scale_min), math.log(config.scale_max)))
    side = max(1, round(crop / scale))
    height, width = (min(size, side) for size in mask.shape)
    top, left = int(rng.integers(mask.shape[0] - height + 1)), int(rng.integers(mask.shape[1] - width + 1))
    pixels = torch.from_numpy(np.ascontiguousarray(image[top : top + height, left : left + width].transpose(2, 0, 1)))
    ids = torch.from_numpy(np.ascontiguousarray(mask[top : top + height, left : left + width]))[None]
    size = [max(1, min(crop, round(height * crop / side))), max(1, min(crop, round(width * crop / side)))]
    if size != [height, width]:
        pixels = functional.resize_image(pixels, size, interpolation=InterpolationMode.BILINEAR, antialias=True)
        ids = functional.resize_image(ids, size, interpolation=InterpolationMode.NEAREST_EXACT)
    pixels = _recolour(pixels, rng, config)
    if rng.random() < config.flip:
        pixels, ids = pixels.flip(-1), ids.flip(-1)
    if size != [crop, crop]:
        above, before = int(rng.integers(crop - size[0] + 1)), int(rng.integers(crop - size[1] + 1))
        margins = [before, above, crop - size[1] - before, crop - size[0] - above]
        pixels = functional.pad_image(pixels, margins, fill=0)
        ids = functional.pad_image(ids, margins, fill=IGNORE)
    return pixels, ids[0]


def _recolour(pixels: torch.Tensor, rng: np.random.Generator, config: LoopConfig) -> torch.Tensor:
    """Brightness, contrast and saturation by a factor of 1 +- jitter each."""
    if not config.jitter:
        return pixels
    brightness, contrast, saturation = rng.uniform(1 - config.jitter, 1 + config.jitter, size=3).tolist()
    pixels = functional.adjust_brightness_image(pixels, brightness)
    pixels = functional.adjust_contrast_image(pixels, contrast)
    return functional.adjust_saturation_image(pixels, saturation)
