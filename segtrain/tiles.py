"""Pictures of any size, tile by tile: what one tile does not hold is the mean of the logits of those that overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from segtrain.errors import ConfigError
from segtrain.segmenter import Segmenter

TILE_PX, OVERLAP_PX = 1024, 128  # of `predict` and `eval` alike: what is scored is what is written


def predict_each(
    segmenter: Segmenter,
    images: Sequence[np.ndarray],
    batch_size: int,
    tile_px: int = TILE_PX,
    overlap_px: int = OVERLAP_PX,
) -> list[np.ndarray]:
    """Images (H, W, 3) uint8 RGB of any sizes to the masks (H, W) uint8 of `predict_by_tiles`, in the same order; those
    that one tile covers share batches.
    """
    large = [bool(tile_px) and max(image.shape[:2]) > tile_px for image in images]
    small = iter(segmenter.predict([one for one, tiled in zip(images, large, strict=True) if not tiled], batch_size))
    return [
        predict_by_tiles(segmenter, image, tile_px, overlap_px)[0] if tiled else next(small)
        for image, tiled in zip(images, large, strict=True)
    ]


def predict_by_tiles(
    segmenter: Segmenter, image: np.ndarray, tile_px: int, overlap_px: int
) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 RGB to ids (H, W) uint8 and the probability of each, the confidence (H, W) float32 in 0..1.

    A picture that one tile covers has the mask of `Segmenter.predict`; `tile_px` 0 = one tile covers every picture.
    Memory grows with the width of the picture, not with its height. Raises ConfigError unless 0 <= overlap < tile.
    """
    require_tiles(tile_px, overlap_px)
    height, width = image.shape[:2]
    tall, wide = min(tile_px or height, height), min(tile_px or width, width)
    tops, lefts = tile_starts(height, tall, overlap_px), tile_starts(width, wide, overlap_px)
    ids = segmenter.label_space.id_of_channel
    mask, confidence = np.empty((height, width), np.uint8), np.empty((height, width), np.float32)
    sums, counts = np.zeros((len(ids), tall, width), np.float32), np.zeros((tall, width), np.float32)
    for top, end in zip(tops, [*tops[1:], height], strict=True):
        for left in lefts:
            (logits,) = segmenter.predict_logits([image[top : top + tall, left : left + wide]])
            sums[:, :, left : left + wide] += logits
            counts[:, left : left + wide] += 1
        done = end - top  # no later tile reaches these rows
        mean = sums[:, :done] / counts[:done]
        mask[top:end] = ids[mean.argmax(axis=0)]
        confidence[top:end] = 1 / np.exp(mean - mean.max(axis=0)).sum(axis=0)  # softmax of the greatest
        for gathered in (sums, counts[None]):
            gathered[:, : tall - done] = gathered[:, done:].copy()
            gathered[:, tall - done :] = 0
    return mask, confidence


def require_tiles(tile_px: int, overlap_px: int) -> None:
    """Raise ConfigError unless 0 <= overlap < tile, or the tile is 0."""
    if tile_px < 0 or (tile_px and not 0 <= overlap_px < tile_px):
        raise ConfigError(
            f"tile {tile_px}, overlap {overlap_px}: the overlap must be at least 0 and below the tile; a tile of 0 is "
            "the whole picture"
        )


def tile_starts(length_px: int, tile_px: int, overlap_px: int) -> list[int]:
    """Where tiles begin along a side of at least one: the fewest that overlap by `overlap_px` or more, spread evenly;
    the last one ends with the picture."""
    gaps = math.ceil((length_px - tile_px) / (tile_px - overlap_px)) if length_px > tile_px else 0
    return [number * (length_px - tile_px) // gaps for number in range(gaps + 1)] if gaps else [0]
