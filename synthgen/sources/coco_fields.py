"""The fields of COCO's records: numbers and texts as other tools write them, all else refused with its place."""

from __future__ import annotations

import dataclasses
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from segkit.errors import InputError
from segkit.printable import excerpt

LONGEST_NAME, _LONGEST_PATH = 255, 4000  # bytes of a name and of a path that file systems take
IGNORED_AREA = "ignore_segmentation"
"""The key of an image record under which `synthgen export` and `convert` write the run lengths of what is unlabelled;
other readers pass over it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """One entry of `images`."""

    file: str  # below the folder of images
    size: tuple[int, int]  # (H, W)
    ignored: np.ndarray | None = None  # run lengths of what is unlabelled, as coco_shapes.drawn takes them


def category_field(item: dict[str, Any], names: dict[int, str], where: str) -> int:
    category = whole_field(item, "category_id", where)
    if category not in names:
        known = ", ".join(f"{number} {name}" for number, name in sorted(names.items())[:8])
        raise InputError(f"{where}: category {category} is not in `categories`, which has {excerpt(known, 160)}")
    return category


def where_of(item: dict[str, Any], picture: Picture, path: Path) -> str:
    return f"{path}: image {excerpt(picture.file)}: annotation {excerpt(item.get('id'))}"


def list_field(raw: Any, key: str, where: object) -> list[dict[str, Any]]:
    items = raw.get(key) if isinstance(raw, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InputError(f"{where}: not a COCO annotation file: `{key}` must be a list of objects")
    return items


def whole_field(item: dict[str, Any], key: str, where: object) -> int:
    """A whole number; tables of other tools make texts and floats of ids."""
    value = item.get(key)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{where}: `{key}` must be a whole number, not {excerpt(value)}")
    return value


def flag_field(item: dict[str, Any], key: str, where: object) -> bool:
    """0, 1, true or false; missing is false."""
    value = item.get(key)
    return value if isinstance(value, bool) else value is not None and whole_field(item, key, where) != 0


def text_field(item: dict[str, Any], key: str, where: object) -> str:
    value = item.get(key)
    if not isinstance(value, str) or not value:
        raise InputError(f"{where}: `{key}` must be a text, not {excerpt(value)}")
    return value


def relative_file(name: str, where: object) -> str:
    """A file name that stays below its folder."""
    place = PurePosixPath(name.replace("\\", "/"))
    if len(name) > _LONGEST_PATH or any(len(part.encode("utf-8", "replace")) > LONGEST_NAME for part in place.parts):
        raise InputError(f"{where}: file {excerpt(name)} is longer than the name of a file can be")
    if place.is_absolute() or ".." in place.parts or "\0" in name or not place.name:
        raise InputError(f"{where}: file {excerpt(name)} leads out of the dataset; write it relative to the images")
    return place.as_posix()
