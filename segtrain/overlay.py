"""A mask over its picture, for looking at."""

from __future__ import annotations

import numpy as np

from segkit.colours import voc_colour
from segkit.labels import IGNORE, LabelSpace

_SHARE = 0.5


def overlay(image: np.ndarray, mask: np.ndarray, space: LabelSpace) -> np.ndarray:
    """(H, W, 3) uint8 RGB and (H, W) uint8 ids to (H, W, 3) uint8: half picture, half the colour of the class.

    The background and unlabelled pixels stay as they are.
    """
    tinted = (image * (1 - _SHARE) + colours(space)[mask] * _SHARE).round().astype(np.uint8)
    plain = mask == IGNORE
    if space.background is not None:
        plain |= mask == space.background
    tinted[plain] = image[plain]
    return tinted


def colours(space: LabelSpace) -> np.ndarray:
    """(256, 3) uint8: the colour of each id; those of PASCAL VOC where the label space does not tell its classes
    apart."""
    if len({label.colour for label in space.labels}) == len(space.labels):
        return space.colour_table()
    return np.array([voc_colour(number) for number in range(256)], np.uint8)
