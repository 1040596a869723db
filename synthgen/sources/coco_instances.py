"""COCO's instances: each annotation checked, and the masks drawn of them."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from segkit.errors import InputError
from segkit.labels import IGNORE, LabelSpace
from segkit.printable import excerpt
from synthgen.sources.coco_fields import Picture, category_field, flag_field, where_of
from synthgen.sources.coco_shapes import Polygons, box_of, drawn, has_shape, shape_of
from synthgen.sources.encodings import ids_of

MOST_PROBLEMS = 20  # that are told of one file, one line each
CROWD = -1
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Instance:
    """One instance. `category` is its id in the file, -1 for a crowd and for what has a box but no shape; `shape` as
    coco_shapes.shape_of gives it, or the box."""

    category: int
    shape: Polygons | np.ndarray


@dataclasses.dataclass(frozen=True, slots=True)
class InstanceDecoder:
    """Draws the instances of one image, the largest first; pixels of none are background, crowds are 255."""

    names: dict[int, str]
    aliases: dict[str, str]
    size: tuple[int, int]  # (H, W)
    instances: tuple[Instance, ...]
    as_listed: bool = False  # drawn in their own order, as some tools do, and not by size
    extras: tuple[tuple[str, int], ...] = ()  # what its annotations say that no mask holds, and how often

    @property
    def categories(self) -> frozenset[int]:
        """Ids of the categories that the image shows; -1 if it has a crowd."""
        return frozenset(instance.category for instance in self.instances)

    def __call__(self, path: Path, space: LabelSpace) -> np.ndarray:
        """(H, W) uint8 ids of `space`; classes that it lacks are 255 and not background.

        Raises LabelError if it has none of COCO's.
        """
        ids = ids_of(self.names, space, path, self.aliases)
        mask = np.full(self.size, IGNORE if space.background is None else space.background, np.uint8)
        for instance in self.drawing_order():
            value = IGNORE if instance.category == CROWD else ids[instance.category]
            mask[drawn(instance.shape, self.size)] = value
        return mask

    def drawing_order(self) -> list[Instance]:
        """The instances in the order in which they are drawn: crowds first, so that a counted instance inside one keeps
        its label, then the largest first."""
        # the stored `area` is stale or 0 in what some tools write, so it is counted
        areas = [int(np.count_nonzero(drawn(instance.shape, self.size))) for instance in self.instances]
        order = sorted(
            range(len(areas)),
            key=lambda n: (self.instances[n].category != CROWD, 0 if self.as_listed else -areas[n]),
        )
        return [self.instances[n] for n in order]


def instance_decoders(
    grouped: dict[int, list[dict[str, Any]]],
    pictures: dict[int, Picture],
    names: dict[int, str],
    aliases: dict[str, str],
    path: Path,
) -> dict[int, tuple[Path, InstanceDecoder]]:
    """image id -> the JSON and what draws its instances.

    Raises InputError for the first malformed annotation, after a logged line for each of the others; and if nothing
    but crowds and boxes is there.
    """
    decoders: dict[int, tuple[Path, InstanceDecoder]] = {}
    left = _LeftOut()
    problems: list[str] = []
    for number, items in grouped.items():
        ignored = pictures[number].ignored
        instances = [] if ignored is None else [Instance(CROWD, ignored)]
        for item in items:
            where = where_of(item, pictures[number], path)
            try:
                instances.append(_instance(item, pictures[number].size, names, where, left))
            except InputError as error:
                problems.append(str(error))
        decoders[number] = (
            path,
            InstanceDecoder(names, aliases, pictures[number].size, tuple(instances), extras=_extras(items)),
        )
    if problems:
        for problem in problems[1:MOST_PROBLEMS]:
            _log.error("%s", problem)
        more = f" (and {len(problems) - 1} more annotations of this file)" if len(problems) > 1 else ""
        raise InputError(f"{problems[0]}; mend or remove the annotation{more}")
    left.tell(path, names)
    return decoders


@dataclasses.dataclass(slots=True)
class _LeftOut:
    """What is read as no class, counted while a file is looked through."""

    num_all: int = 0
    crowds: Counter[int] = dataclasses.field(default_factory=Counter)  # category id -> how many
    num_boxes: int = 0
    first_box: str = ""
    num_flat: int = 0
    first_flat: str = ""

    def tell(self, path: Path, names: dict[int, str]) -> None:
        """Log it. Raises InputError if nothing else is there."""
        num_crowds = self.crowds.total()
        if self.num_all and num_crowds == self.num_all:
            raise InputError(
                f"{path}: all {self.num_all} annotations are crowds (iscrowd 1), which are ignored: CVAT writes brush "
                "masks so; set iscrowd to 0 in the file, or export polygons"
            )
        if self.num_all and num_crowds + self.num_boxes == self.num_all:
            crowds = f", {num_crowds} of them crowds (iscrowd 1)" if num_crowds else ""
            raise InputError(
                f"{path}: all {self.num_all} annotations are boxes without a segmentation{crowds}: which pixels are "
                "the object is not known; export polygons or masks"
            )
        if num_crowds:
            kinds = ", ".join(f"{excerpt(names.get(kind, kind), 40)} {n}" for kind, n in self.crowds.most_common(8))
            _log.warning(
                "%s: %d of %d annotations are crowds (iscrowd 1) and read as unlabelled (255): %s; CVAT writes brush "
                "masks so: set iscrowd to 0 if they are objects", path, num_crowds, self.num_all, kinds
            )  # fmt: skip
        if self.num_boxes:
            _log.warning(
                "%d annotations are boxes without a segmentation: their pixels are unlabelled (255), the first in %s",
                self.num_boxes, self.first_box,
            )  # fmt: skip
        if self.num_flat:
            _log.warning(
                "%d polygons of fewer than three points are passed over, the first in %s",
                self.num_flat,
                self.first_flat,
            )


def _extras(items: list[dict[str, Any]]) -> tuple[tuple[str, int], ...]:
    """What annotations say beside their areas."""
    counts = Counter[str]()
    for item in items:
        attributes = item.get("attributes")
        counts["attributes"] += sum(map(bool, attributes.values())) if isinstance(attributes, dict) else 0
        counts["sets of key points"] += bool(item.get("keypoints"))
    return tuple((+counts).items())


def _instance(
    item: dict[str, Any], size: tuple[int, int], names: dict[int, str], where: str, left: _LeftOut
) -> Instance:
    crowd = flag_field(item, "iscrowd", where)
    category = item.get("category_id") if crowd else category_field(item, names, where)
    left.num_all += 1
    try:
        if not has_shape(item.get("segmentation")):
            box = box_of(item.get("bbox"))
            left.num_boxes, left.first_box = left.num_boxes + 1, left.first_box or where
            return Instance(CROWD, box)
        shape, num_flat = shape_of(item["segmentation"], size)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if num_flat:
        left.num_flat, left.first_flat = left.num_flat + num_flat, left.first_flat or where
    if crowd:
        left.crowds[category if isinstance(category, int) else CROWD] += 1
        return Instance(CROWD, shape)
    assert isinstance(category, int)
    return Instance(category, shape)
