"""The label spaces that ship."""

from __future__ import annotations

import numpy as np
import pytest

from synthgen.drawn import objects, streets
from synthgen.labels import read_label_space

SPACES = ("objects", "voc", "cityscapes", "camvid")


def voc_palette(count: int) -> np.ndarray:
    """The colour map of the VOC development kit:

    the bits of an id, three at a time, from the top bit of each channel down.
    """
    ids = np.arange(count)
    table = np.zeros((count, 3), dtype=np.uint8)
    for step in range(8):
        for channel in range(3):
            table[:, channel] |= ((ids >> (3 * step + channel) & 1) << (7 - step)).astype(np.uint8)
    return table


@pytest.mark.parametrize("name", SPACES)
def test_is_well_formed(name: str) -> None:
    space = read_label_space(name)
    assert space.name == name
    assert space.ids == tuple(range(len(space.labels)))
    colours = {label.colour for label in space.labels}
    assert len(colours) == len(space.labels)
    words = [word for label in space.labels for word in {label.name, *label.synonyms}]
    assert len(words) == len(set(words)), "a word names two classes"


@pytest.mark.parametrize("name", ["objects", "voc"])
def test_voc_ids_and_colours(name: str) -> None:
    space = read_label_space(name)
    assert space.background == 0
    assert [label.name for label in space.foreground] == list(objects.CLASSES)
    np.testing.assert_array_equal(space.colour_table()[:21], voc_palette(21))


def test_objects_are_spoken_as_in_the_captions() -> None:
    assert {label.name: label.spoken for label in read_label_space("objects").foreground} == objects.SPOKEN


def test_cityscapes_train_ids_and_colours() -> None:
    space = read_label_space("cityscapes")
    assert space.background is None
    assert tuple(label.name for label in space.labels) == streets.CLASSES
    assert tuple(label.colour for label in space.labels) == streets.PALETTE


def test_camvid_ids() -> None:
    names = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
    assert [label.name for label in read_label_space("camvid").labels] == names
