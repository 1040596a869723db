"""Writes a split of a public dataset, or what a labelling tool exports, in the layout of another tool.

The masks of what is written are those of what was read, to the pixel. Objects stay apart where both formats tell them
apart; what a format cannot hold is counted.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from segkit.labels import IGNORE, LabelSpace
from segkit.printable import excerpt
from synthgen.errors import InputError, StorageError
from synthgen.new_folder import new_folder
from synthgen.sources.catalogue import FOLDER
from synthgen.sources.coco import PanopticDecoder
from synthgen.sources.coco_instances import CROWD, InstanceDecoder
from synthgen.sources.coco_shapes import drawn
from synthgen.sources.encodings import ids_of
from synthgen.sources.folder import LabelledFile, read_label
from synthgen.sources.listing import list_source
from synthgen.sources.objects import areas_of, painted, visible
from synthgen.sources.own_space import space_of
from synthgen.sources.writing import LabelledPicture, Writer, find

_MERGED = "objects, as several of one class are one area now"
_NOT_SEEN = "objects of which no pixel is seen"


@dataclasses.dataclass(slots=True)
class Conversion:
    """What a conversion came to. `lost` counts what was not carried over, by what it is."""

    space: LabelSpace
    num_pictures: int = 0
    lost: Counter[str] = dataclasses.field(default_factory=Counter)


def convert(
    name: str, folder: Path, split: str, space: LabelSpace | None, out: Path, to: str = FOLDER
) -> Iterator[tuple[int, int]]:
    """As `converted` does, without what was lost; yields (done, of how many)."""
    pairs = list_source(name, folder, split)
    for done, _ in enumerate(converted(name, pairs, space, out, to), start=1):
        yield done, len(pairs)


def converted(
    name: str, pairs: Sequence[LabelledFile], space: LabelSpace | None, out: Path, to: str
) -> Iterator[Conversion]:
    """Copy the pictures of `list_source` and write their labels in the ids and names of `space`, in the layout `to`;
    yields what it has come to after each picture. `out` holds everything at the end, nothing before and nothing if it
    fails. Without `space` the classes are those that the labels name.

    Raises StorageError if `out` is there and not empty, InputError and LabelError as reading does and for a format that
    is not known or cannot hold the classes.
    """
    module = find(to)
    names = _names(pairs, out)
    result = Conversion(space or space_of(name, pairs))
    try:
        with new_folder(out) as work:
            writer: Writer = module.build(work, result.space)
            for stem, pair in zip(names, pairs, strict=True):
                file = f"{stem}{pair.image.suffix}"
                writer.add(_picture(file, stem, pair, result, writer, module.OBJECTS))
                (work / writer.pictures).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(pair.image, work / writer.pictures / file)
                result.num_pictures += 1
                yield result
            writer.close()
    except OSError as error:
        raise StorageError(
            f"{out}: cannot be written ({error.strerror or error}); free the space or mend the permissions, then "
            "run the same command again"
        ) from error


def _names(pairs: Sequence[LabelledFile], out: Path) -> list[str]:
    """The stem of each pair in a folder without subfolders."""
    names = [pair.stem.replace("/", "_") for pair in pairs]
    twice = next((stem for stem, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        both = " and ".join(str(pair.image) for stem, pair in zip(names, pairs, strict=True) if stem == twice)
        raise InputError(f"{both}: both would be {twice} in {out}; rename one of them")
    return names


def _picture(
    file: str, stem: str, pair: LabelledFile, result: Conversion, writer: Writer, objects: bool
) -> LabelledPicture:
    space, lost = result.space, result.lost
    mask = read_label(pair, space)
    decode = pair.decode
    if isinstance(decode, InstanceDecoder):
        _count(decode, pair, space, lost)
        if not objects:
            seen = [one for one in decode.instances if drawn(one.shape, decode.size).any()]
            lost[_NOT_SEEN] += len(decode.instances) - len(seen)
            categories = [one.category for one in seen if one.category != CROWD]
            lost[_MERGED] += len(categories) - len(set(categories))
    elif isinstance(decode, PanopticDecoder):
        lost[_MERGED] += len(decode.segments) - len(decode.categories)
    areas = areas_of(pair, mask, space) if objects else []
    areas = writer.order(areas, mask.shape)
    if objects and not np.array_equal(painted(areas, mask.shape, space), mask):
        areas, num_cut = visible(areas_of(pair, mask, space), mask.shape)
        areas = writer.order(areas, mask.shape)
        lost["hidden parts of objects"] += num_cut
    shown = tuple(area for area in areas if drawn(area.shape, mask.shape).any())
    if isinstance(decode, InstanceDecoder) and objects:
        lost[_NOT_SEEN] += max(0, len(decode.instances) - len(shown))
    return LabelledPicture(file, stem, mask, shown)


def _count(decode: InstanceDecoder, pair: LabelledFile, space: LabelSpace, lost: Counter[str]) -> None:
    """Count what reading alone loses."""
    ids = ids_of(decode.names, space, pair.label, decode.aliases)
    for one in decode.instances:
        if one.category == CROWD:
            lost["crowds, boxes without a shape and ignored areas, which are unlabelled now"] += 1
        elif ids[one.category] == IGNORE:
            lost[f"objects of class {excerpt(decode.names[one.category])}, which the label space lacks"] += 1
    lost.update(dict(decode.extras))
