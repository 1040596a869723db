"""A colour for each class, also where a label space gives none: PASCAL VOC's colour map."""

from __future__ import annotations

import numpy as np

from segkit.labels import LabelSpace

VOID_COLOUR = (224, 224, 192)
"""PASCAL VOC's."""


def voc_colour(number: int) -> tuple[int, int, int]:
    """The colour of PASCAL VOC's colour map: another one for each of 0..255, (0, 0, 0) for 0."""
    red, green, blue = (sum((number >> 3 * bit + channel & 1) << 7 - bit for bit in range(8)) for channel in range(3))
    return red, green, blue


def colours_of(space: LabelSpace) -> dict[int, tuple[int, int, int]]:
    """The colour of each class, 254 and 255: the label space's own if no two are the same, else VOC's."""
    special = {254: (255, 0, 255), 255: VOID_COLOUR}
    own = {label.id: label.colour for label in space.labels} | special
    if len(set(own.values())) < len(own):
        own = {label.id: voc_colour(label.id) for label in space.labels} | special
    return own


def distinct_table(space: LabelSpace) -> np.ndarray:
    """(256, 3) uint8: `colours_of` by id, black for what is no id of the space."""
    table = np.zeros((256, 3), np.uint8)
    for class_id, colour in colours_of(space).items():
        table[class_id] = colour
    return table
