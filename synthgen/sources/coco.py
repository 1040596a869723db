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
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from segkit.documents import read_json
from segkit.errors import InputError, did_you_mean
from segkit.headers import require_size
from segkit.labels import IGNORE, LabelSpace
from segkit.masks import read_colours
from segkit.pictures import require_same_size
from segkit.printable import excerpt
from synthgen.sources.coco_fields import (
    IGNORED_AREA,
    Picture,
    category_field,
    list_field,
    relative_file,
    text_field,
    where_of,
    whole_field,
)
from synthgen.sources.coco_instances import InstanceDecoder, instance_decoders
from synthgen.sources.coco_shapes import runs_of
from synthgen.sources.encodings import ids_of, translate
from synthgen.sources.folder import LabelledFile

MAX_JSON_BYTES = 2**32  # instances_train2017.json has 0.45 GB
_log = logging.getLogger(__name__)


def list_files(
    root: Path, images: str, labels: str, encoding: str, split: str, aliases: dict[str, str]
) -> list[LabelledFile]:
    """One LabelledFile an image that has annotations, by file name; its stem is the file's name without the suffix,
    folders included. Its label is the panoptic PNG, or the JSON that holds its instances.

    `labels` is the template of the JSON; empty list if it is not there. `images` is that of the folder of pictures, or
    several with | between them: the first that holds one of them counts. Raises InputError, with image and annotation,
    for what is malformed, for a file without any annotation, for two images of one file and for missing pictures. What
    is read as unlabelled (crowds, boxes without a shape) or left out is logged with its count.
    """
    path = root / labels.format(split=split)
    if not path.exists():
        return []
    raw = _annotations(path)
    names = _names(raw, path)
    pictures = dict(_pictures(raw, path))
    grouped = _by_image(raw, pictures, path)
    if not grouped:
        raise InputError(f"{path}: has no annotation: none of its {len(pictures)} images is labelled")
    if len(grouped) < len(pictures):
        _log.warning("%s: %d images without annotations are left out", path, len(pictures) - len(grouped))
    folder = _folder_of(pictures, [root / place.format(split=split) for place in images.split("|")])
    decoders: Decoders = (
        _panoptic(grouped, pictures, names, aliases, path)
        if encoding == "coco_panoptic"
        else {**instance_decoders(grouped, pictures, names, aliases, path)}
    )
    listed: list[LabelledFile] = []
    image_of: dict[Path, str] = {}
    for number in sorted(grouped, key=lambda number: pictures[number].file):
        label, decode = decoders[number]
        image = _existing(folder / pictures[number].file, path)
        if image in image_of:  # two spellings of one name: composed and decomposed accents
            raise InputError(
                f"{path}: images {excerpt(image_of[image])} and {excerpt(pictures[number].file)} are one file, {image}"
            )
        image_of[image] = pictures[number].file
        stem = PurePosixPath(pictures[number].file).with_suffix("").as_posix()
        listed.append(LabelledFile(stem, image, _existing(label, path), decode, path))
    return listed


def check_shown(pairs: Sequence[LabelledFile], space: LabelSpace, wanted: Sequence[int]) -> None:
    """Refuse, before any pixel is read, pairs of `list_files` in which no annotation is of a wanted class, and those
    whose pictures have another size than the file says.

    Logs the category names that `space` lacks. Raises InputError and LabelError in one line.
    """
    decoders = [pair.decode for pair in pairs if isinstance(pair.decode, PanopticDecoder | InstanceDecoder)]
    if not decoders:
        return
    path = pairs[0].annotations or pairs[0].label
    names, aliases = decoders[0].names, decoders[0].aliases
    ids = ids_of(names, space, path, aliases)
    shown = {ids[category] for decoder in decoders for category in decoder.categories if category in ids}
    for class_id in wanted:
        if class_id not in shown and class_id != space.background:
            label = space.by_id(class_id)
            near = next(
                (hint for word in (label.name, *label.synonyms) if (hint := did_you_mean(word, names.values()))), ""
            )
            raise InputError(
                f"{path}: no annotation that is read is of class {label.name!r} (id {class_id}); the file's categories "
                f"are {excerpt(', '.join(sorted(names.values())), 160)}: make one a synonym of the class, or leave the "
                f"class out of labels.classes{near}"
            )
    for pair in pairs:
        if isinstance(pair.decode, InstanceDecoder):
            require_same_size(pair.decode.size, f"{path}: image {excerpt(pair.stem)}", pair.image)


@dataclasses.dataclass(frozen=True, slots=True)
class PanopticDecoder:
    """Reads one panoptic PNG."""

    names: dict[int, str]
    aliases: dict[str, str]
    segments: dict[int, int]  # segment id -> category id

    @property
    def categories(self) -> frozenset[int]:
        """Ids of the categories that the image shows."""
        return frozenset(self.segments.values())

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


Decoders = dict[int, tuple[Path, PanopticDecoder | InstanceDecoder]]
"""image id -> label file and what reads it."""
Grouped = dict[int, list[dict[str, Any]]]


def _panoptic(
    grouped: Grouped, pictures: dict[int, Picture], names: dict[int, str], aliases: dict[str, str], path: Path
) -> Decoders:
    decoders: Decoders = {}
    for number, items in grouped.items():
        where = where_of(items[0], pictures[number], path)
        if len(items) > 1:
            raise InputError(f"{where}: the image has {len(items)} panoptic annotations, must have one")
        parts = list_field(items[0], "segments_info", where)
        segments = {whole_field(part, "id", where): category_field(part, names, where) for part in parts}
        label = path.with_suffix("") / relative_file(text_field(items[0], "file_name", where), where)
        decoders[number] = (label, PanopticDecoder(names, aliases, segments))
    return decoders


def _names(raw: Any, path: Path) -> dict[int, str]:
    """Category id -> name."""
    names: dict[int, str] = {}
    for item in list_field(raw, "categories", path):
        number, name = whole_field(item, "id", path), text_field(item, "name", path)
        if names.setdefault(number, name) != name:
            raise InputError(
                f"{path}: category {number} is {excerpt(names[number])} and {excerpt(name)}: ids must be unique, or "
                "annotations of the one would be read as the other"
            )
    return names


def _pictures(raw: Any, path: Path) -> Iterator[tuple[int, Picture]]:
    numbers: Counter[int] = Counter()
    image_of: dict[str, int] = {}
    for item in list_field(raw, "images", path):
        number, where = whole_field(item, "id", path), f"{path}: image {excerpt(item.get('id'))}"
        file = relative_file(text_field(item, "file_name", where), where)
        size = whole_field(item, "height", where), whole_field(item, "width", where)
        require_size(size, where)
        ignored = item.get(IGNORED_AREA)
        numbers[number] += 1
        if numbers[number] > 1:
            raise InputError(f"{where}: this id occurs twice; images have one each")
        if file in image_of:
            raise InputError(
                f"{where}: is the file {excerpt(file)}, and so is image {image_of[file]}: whose annotations are whose "
                "cannot be known; export again with folders in the names"
            )
        image_of[file] = number
        yield number, Picture(file, size, None if ignored is None else runs_of(ignored, size, where))


def _by_image(raw: Any, pictures: dict[int, Picture], path: Path) -> Grouped:
    grouped: Grouped = {}
    for item in list_field(raw, "annotations", path):
        number = whole_field(item, "image_id", path)
        if number not in pictures:
            raise InputError(f"{path}: annotation {excerpt(item.get('id'))}: image {number} is not in `images`")
        grouped.setdefault(number, []).append(item)
    return grouped


def _folder_of(pictures: dict[int, Picture], folders: list[Path]) -> Path:
    """The first of the folders that holds one of the pictures; else the first that is there."""
    held = (folder for folder in folders if any((folder / picture.file).is_file() for picture in pictures.values()))
    return next(held, next((folder for folder in folders if folder.is_dir()), folders[0]))


def _existing(path: Path, asked_by: Path) -> Path:
    """The file, also where an archive has taken its accents apart or put them together."""
    for form in ("NFC", "NFD"):
        if not path.is_file():
            other = path.with_name(unicodedata.normalize(form, path.name))
            path = other if other.is_file() else path
    if not path.is_file():
        near = _in_other_case(path)
        raise InputError(
            f"{path}: no such file, but {asked_by.name} asks for it; "
            + (
                f"there is {near}: upper and lower case must be the same"
                if near
                else "the download or its unpacking is not complete"
            )
        )
    return path


def _in_other_case(path: Path) -> str:
    """The name of a file beside, if it differs in upper and lower case alone; "" if there is none."""
    names = (other.name for other in sorted(path.parent.iterdir())) if path.parent.is_dir() else ()
    return next((name for name in names if name.casefold() == path.name.casefold()), "")


@functools.lru_cache(maxsize=1)
def _annotations(path: Path) -> Any:
    return read_json(path, max_bytes=MAX_JSON_BYTES, finite=False)
