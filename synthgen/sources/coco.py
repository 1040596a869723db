"""COCO's annotation files: panoptic PNGs with their JSON, and instances as polygons or run lengths.

Class names come from the file's own `categories`. An id image of the panoptic format holds R + 256 G + 65536 B, 0 is
void. Everything is checked when the file is listed, so that a fault is told with image and annotation before anything
is made of it.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from segkit.documents import read_json
from segkit.errors import InputError
from segkit.headers import require_size
from segkit.labels import IGNORE, LabelSpace
from segkit.masks import read_colours
from segkit.printable import excerpt
from synthgen.sources.coco_shapes import Polygons, drawn, shape_of
from synthgen.sources.encodings import ids_of, translate
from synthgen.sources.folder import LabelledFile

MAX_JSON_BYTES = 2**32  # instances_train2017.json has 0.45 GB
_CROWD = -1
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Instance:
    """One instance. `category` is its id in the file, -1 for a crowd; `shape` as coco_shapes.shape_of gives it."""

    category: int
    shape: Polygons | np.ndarray


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """One entry of `images`."""

    file: str  # below the folder of images
    size: tuple[int, int]  # (H, W)


def list_files(
    root: Path, images: str, labels: str, encoding: str, split: str, aliases: dict[str, str]
) -> list[LabelledFile]:
    """One LabelledFile an image that has annotations, by file name; its stem is the file's name without the suffix,
    folders included. Its label is the panoptic PNG, or the JSON that holds its instances.

    `labels` is the template of the JSON; empty list if it is not there. Raises InputError, with image and annotation,
    for what is malformed, for two images of one file and for missing pictures.
    """
    path = root / labels.format(split=split)
    if not path.exists():
        return []
    raw = _annotations(path)
    names = {_whole(item, "id", path): _text(item, "name", path) for item in _list(raw, "categories", path)}
    pictures = dict(_pictures(raw, path))
    grouped = _by_image(raw, pictures, path)
    if len(grouped) < len(pictures):
        _log.warning("%s: %d images without annotations are left out", path, len(pictures) - len(grouped))
    folder = root / images.format(split=split)
    read = _panoptic if encoding == "coco_panoptic" else _instances
    decoders = read(grouped, pictures, names, aliases, path)
    listed = []
    for number in sorted(grouped, key=lambda number: pictures[number].file):
        label, decode = decoders[number]
        image = _existing(folder / pictures[number].file, path)
        stem = PurePosixPath(pictures[number].file).with_suffix("").as_posix()
        listed.append(LabelledFile(stem, image, _existing(label, path), decode))
    return listed


@dataclasses.dataclass(frozen=True, slots=True)
class PanopticDecoder:
    """Reads one panoptic PNG."""

    names: dict[int, str]
    aliases: dict[str, str]
    segments: dict[int, int]  # segment id -> category id

    def __call__(self, path: Path, space: LabelSpace) -> np.ndarray:
        """(H, W) uint8 ids of `space`; void and classes that it lacks are 255.

        Raises LabelError for a segment that the JSON does not list.
        """
        channels = read_colours(path).astype(np.int64)
        values = channels[..., 0] + 256 * channels[..., 1] + 65536 * channels[..., 2]
        of_category = ids_of(self.names, space, path.parent, self.aliases)
        return translate(
            values,
            {0: IGNORE} | {segment: of_category.get(kind, IGNORE) for segment, kind in self.segments.items()},
            path,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class InstanceDecoder:
    """Draws the instances of one image, the largest first; pixels of none are background, crowds are 255."""

    names: dict[int, str]
    aliases: dict[str, str]
    size: tuple[int, int]  # (H, W)
    instances: tuple[Instance, ...]

    def __call__(self, path: Path, space: LabelSpace) -> np.ndarray:
        """(H, W) uint8 ids of `space`; classes that it lacks are 255 and not background.

        Raises LabelError if it has none of COCO's.
        """
        ids = ids_of(self.names, space, path, self.aliases)
        mask = np.full(self.size, IGNORE if space.background is None else space.background, np.uint8)
        # the stored `area` is stale or 0 in what some tools write, so it is counted
        areas = [int(np.count_nonzero(drawn(instance.shape, self.size))) for instance in self.instances]
        # crowds go first: a counted instance inside one keeps its label
        order = sorted(range(len(areas)), key=lambda n: (self.instances[n].category != _CROWD, -areas[n]))
        for instance in (self.instances[n] for n in order):
            value = IGNORE if instance.category == _CROWD else ids[instance.category]
            mask[drawn(instance.shape, self.size)] = value
        return mask


Decoders = dict[int, tuple[Path, PanopticDecoder | InstanceDecoder]]
"""image id -> label file and what reads it."""
Grouped = dict[int, list[dict[str, Any]]]


def _instances(
    grouped: Grouped, pictures: dict[int, Picture], names: dict[int, str], aliases: dict[str, str], path: Path
) -> Decoders:
    decoders: Decoders = {}
    num_flat, num_crowds, num_all, example = 0, 0, 0, ""
    for number, items in grouped.items():
        instances = []
        for item in items:
            where = _where(item, pictures[number], path)
            category = _CROWD if item.get("iscrowd") else _category(item, names, where)
            try:
                shape, flat = shape_of(item.get("segmentation"), pictures[number].size)
            except InputError as error:
                raise InputError(f"{where}: {error}; mend or remove the annotation") from error
            num_flat, example = num_flat + flat, example or (where if flat else "")
            num_crowds, num_all = num_crowds + (category == _CROWD), num_all + 1
            instances.append(Instance(category, shape))
        decoders[number] = (path, InstanceDecoder(names, aliases, pictures[number].size, tuple(instances)))
    if num_flat:
        _log.warning("%d polygons of fewer than three points are passed over, the first in %s", num_flat, example)
    if num_all and num_crowds == num_all:
        raise InputError(
            f"{path}: all {num_all} annotations are crowds (iscrowd 1), which are ignored: CVAT writes brush masks so; "
            "set iscrowd to 0 in the file, or export polygons"
        )
    return decoders


def _panoptic(
    grouped: Grouped, pictures: dict[int, Picture], names: dict[int, str], aliases: dict[str, str], path: Path
) -> Decoders:
    decoders: Decoders = {}
    for number, items in grouped.items():
        where = _where(items[0], pictures[number], path)
        if len(items) > 1:
            raise InputError(f"{where}: the image has {len(items)} panoptic annotations, must have one")
        parts = _list(items[0], "segments_info", where)
        segments = {_whole(part, "id", where): _category(part, names, where) for part in parts}
        label = path.with_suffix("") / _relative(_text(items[0], "file_name", where), where)
        decoders[number] = (label, PanopticDecoder(names, aliases, segments))
    return decoders


def _pictures(raw: Any, path: Path) -> Iterator[tuple[int, Picture]]:
    numbers: Counter[int] = Counter()
    image_of: dict[str, int] = {}
    for item in _list(raw, "images", path):
        number, where = _whole(item, "id", path), f"{path}: image {excerpt(item.get('id'))}"
        file = _relative(_text(item, "file_name", where), where)
        size = _whole(item, "height", where), _whole(item, "width", where)
        require_size(size, where)
        numbers[number] += 1
        if numbers[number] > 1:
            raise InputError(f"{where}: this id occurs twice; images have one each")
        if file in image_of:
            raise InputError(
                f"{where}: is the file {excerpt(file)}, and so is image {image_of[file]}: whose annotations are whose "
                "cannot be known; export again with folders in the names"
            )
        image_of[file] = number
        yield number, Picture(file, size)


def _by_image(raw: Any, pictures: dict[int, Picture], path: Path) -> Grouped:
    grouped: Grouped = {}
    for item in _list(raw, "annotations", path):
        number = _whole(item, "image_id", path)
        if number not in pictures:
            raise InputError(f"{path}: annotation {excerpt(item.get('id'))}: image {number} is not in `images`")
        grouped.setdefault(number, []).append(item)
    return grouped


def _category(item: dict[str, Any], names: dict[int, str], where: str) -> int:
    category = _whole(item, "category_id", where)
    if category not in names:
        known = ", ".join(f"{number} {name}" for number, name in sorted(names.items())[:8])
        raise InputError(f"{where}: category {category} is not in `categories`, which has {excerpt(known, 160)}")
    return category


def _where(item: dict[str, Any], picture: Picture, path: Path) -> str:
    return f"{path}: image {excerpt(picture.file)}: annotation {excerpt(item.get('id'))}"


def _list(raw: Any, key: str, where: object) -> list[dict[str, Any]]:
    items = raw.get(key) if isinstance(raw, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InputError(f"{where}: not a COCO annotation file: `{key}` must be a list of objects")
    return items


def _whole(item: dict[str, Any], key: str, where: object) -> int:
    """A whole number; tables of other tools make texts and floats of ids."""
    value = item.get(key)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{where}: `{key}` must be a whole number, not {excerpt(value)}")
    return value


def _text(item: dict[str, Any], key: str, where: object) -> str:
    value = item.get(key)
    if not isinstance(value, str) or not value:
        raise InputError(f"{where}: `{key}` must be a text, not {excerpt(value)}")
    return value


def _relative(name: str, where: object) -> str:
    """A file name that stays below its folder."""
    place = PurePosixPath(name.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts or "\0" in name or not place.name:
        raise InputError(f"{where}: file {excerpt(name)} leads out of the dataset; write it relative to the images")
    return place.as_posix()


def _existing(path: Path, asked_by: Path) -> Path:
    """The file, also where an archive has taken its accents apart or put them together."""
    for form in ("NFC", "NFD"):
        if not path.is_file():
            other = path.with_name(unicodedata.normalize(form, path.name))
            path = other if other.is_file() else path
    if not path.is_file():
        raise InputError(
            f"{path}: no such file, but {asked_by.name} asks for it; the download or its unpacking is not complete"
        )
    return path


@functools.lru_cache(maxsize=1)
def _annotations(path: Path) -> Any:
    return read_json(path, max_bytes=MAX_JSON_BYTES, finite=False)
