"""Windows of a labelled picture around its rare classes, and what is said of them (DGInStyle).

A window follows from the run seed, the picture's own bytes and the window's number alone.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image

from segkit.labels import LabelSpace
from synthgen.adapt_settings import Captions, Crops
from synthgen.classes import words_of_shown
from synthgen.records import digest_of, seed_of
from synthgen.sources.rare_classes import middle_window, window_of_class


@dataclasses.dataclass(frozen=True, slots=True)
class Crop:
    """A window at the size of the training."""

    image: np.ndarray  # (H, W, 3) uint8
    mask: np.ndarray  # (H, W) uint8 ids
    shares: np.ndarray  # (classes,) float32: share of the window that each class covers
    caption: str


def crop(
    image: np.ndarray,
    mask: np.ndarray,
    size_px: tuple[int, int],
    number: int,
    content: str,
    seed: int,
    probabilities: np.ndarray,
    space: LabelSpace,
    settings: Crops,
    captions: Captions,
) -> Crop:
    """Window `number` of a picture (H, W, 3) uint8 with its mask (H, W) uint8, resized to `size_px` (height, width).

    A class of the picture is drawn by `probabilities` (classes,), a pixel of it, and a window that holds the pixel;
    drawn again while the class covers less than `min_share`. `content` stands for the picture's bytes.
    """
    rng = np.random.default_rng(seed_of(digest_of(f"{seed}/{content}/{number}".encode())))
    channels = space.channel_of_id[mask]
    present = np.bincount(channels.ravel(), minlength=256)[: len(space.labels)] > 0
    weights = probabilities * present
    window = middle_window(mask.shape, size_px)
    if weights.sum() > 0:
        chosen = int(rng.choice(len(weights), p=weights / weights.sum()))
        window, _ = window_of_class(rng, channels == chosen, size_px, settings.window, settings.min_share)
    small = _resized(mask[window], size_px, Image.Resampling.NEAREST)
    large = _resized(image[window], size_px, Image.Resampling.LANCZOS)
    if settings.flip and number % 2:
        small, large = small[:, ::-1], large[:, ::-1]
    counts = np.bincount(space.channel_of_id[small].ravel(), minlength=256)[: len(space.labels)]
    shares = (counts / small.size).astype(np.float32)
    return Crop(np.array(large), np.array(small), shares, caption(shares, space, captions))


def caption(shares: np.ndarray, space: LabelSpace, settings: Captions) -> str:
    """The sentence with the spoken names of the classes that cover `min_share` of the window; `shares` (classes,)."""
    things = words_of_shown(shares, space, settings.min_share, settings.unnamed)
    if not things and settings.sentence.strip() != "{things}":
        things = "nothing else"
    return " ".join(settings.sentence.format(things=things).split())


def _resized(array: np.ndarray, size_px: tuple[int, int], method: Image.Resampling) -> np.ndarray:
    if array.shape[:2] == size_px:
        return array
    return np.asarray(Image.fromarray(array).resize((size_px[1], size_px[0]), method))
