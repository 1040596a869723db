"""A label space from the class names of an export, for whoever has not written one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segkit.label_map import ANOMALY_NAME, IGNORED_NAME
from segkit.labels import Label, LabelSpace
from segkit.spelling import same_name
from synthgen.errors import InputError
from synthgen.sources.coco import PanopticDecoder
from synthgen.sources.coco_instances import InstanceDecoder
from synthgen.sources.encodings import ANOMALY, BACKGROUND, Decoder
from synthgen.sources.folder import LabelledFile

UNLABELLED = "__ignore__"
"""What formats call unlabelled pixels here that have no id for them: LabelMe's own word."""
VOID_COLOUR = (224, 224, 192)
"""PASCAL VOC's."""
_NO_CLASS = (UNLABELLED, IGNORED_NAME, ANOMALY, ANOMALY_NAME)
_MOST = 254


def space_of(name: str, pairs: Sequence[LabelledFile]) -> LabelSpace:
    """The classes that the label files name, in their order; background is 0, with or without being named.

    Raises InputError where nothing names them, or for more than 253.
    """
    names: dict[str, str] = {}
    for pair in pairs:
        decode = pair.decode
        if isinstance(decode, InstanceDecoder | PanopticDecoder):
            found = [word for _, word in sorted(decode.names.items())]
        elif isinstance(decode, Decoder):
            found = list(decode.table.names.values())
        else:
            raise InputError(f"{pair.label}: nothing says which class an id is of; give --space ./labels.yaml")
        for word in found:
            names.setdefault(same_name(word), word)
    for word in (BACKGROUND, *_NO_CLASS):
        names.pop(same_name(word), None)
    if len(names) >= _MOST:
        raise InputError(f"{name}: has {len(names)} classes; masks of 8 bits hold {_MOST - 1} and a background")
    labels = [Label(number, word, voc_colour(number)) for number, word in enumerate([BACKGROUND, *names.values()])]
    return LabelSpace(name, tuple(labels), 0)


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
