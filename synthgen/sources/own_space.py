"""A label space from the class names of an export, for whoever has not written one."""

from __future__ import annotations

from collections.abc import Sequence

from segkit.colours import voc_colour
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
