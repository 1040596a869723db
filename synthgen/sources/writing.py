"""What a writer of labels is, and how it is found: a format is a file of `writers`, under the name of its source."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from segkit.labels import IGNORE, OUT_OF_DISTRIBUTION, LabelSpace
from synthgen import plugins
from synthgen.errors import InputError
from synthgen.files import write_bytes
from synthgen.images import png_bytes
from synthgen.sources import writers
from synthgen.sources.encodings import ANOMALY
from synthgen.sources.objects import Area


@dataclasses.dataclass(frozen=True, slots=True)
class LabelledPicture:
    """One picture as a writer gets it; the file itself is copied by who calls it."""

    file: str  # its name in the writer's folder of pictures
    stem: str  # the name without the suffix
    mask: np.ndarray  # (H, W) uint8 ids of the label space
    areas: tuple[Area, ...]  # in the order of the writer's `order`; they give the mask when drawn in it


class Writer(Protocol):
    """Writes the labels of pictures below a folder.

    A writer's module has `OBJECTS`, whether objects of one class stay apart in it, `USE`, how the result is opened, and
    `build(out, space)`.
    """

    pictures: str
    """Folder of the pictures below the one that is written, "" for that itself."""

    def order(self, areas: Sequence[Area], size: tuple[int, int]) -> list[Area]:
        """The order in which readers of the format draw the areas; asked where it holds objects."""
        ...

    def add(self, picture: LabelledPicture) -> None:
        """Write, or keep, the labels of one picture."""
        ...

    def close(self) -> None:
        """Write what is about all of them."""
        ...


def available() -> list[str]:
    """Names of the formats, sorted."""
    return list(plugins.available(writers.__name__))


def find(name: str) -> ModuleType:
    """The module of a format. Raises InputError that lists the known names if there is none."""
    return plugins.find(
        writers.__name__,
        name,
        kind="format of labels",
        public=("OBJECTS", "USE", "build"),
        document="synthgen/sources/writing.py",
        error=InputError,
    )


def name_of(class_id: int, space: LabelSpace, unlabelled: str) -> str:
    """The word for an id of a mask; `unlabelled` for 255."""
    if class_id == IGNORE:
        return unlabelled
    return ANOMALY if class_id == OUT_OF_DISTRIBUTION else space.by_id(class_id).name


def write_file(data: bytes, path: Path) -> None:
    """Write a file whole or not at all, in a folder that is made if need be. Raises StorageError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(data, path)


def write_json(value: Any, path: Path) -> None:
    """Write a JSON document, as `write_file` does."""
    write_file(json.dumps(value, ensure_ascii=False, indent=1).encode(), path)


def write_mask(mask: np.ndarray, path: Path) -> None:
    """Write a PNG of (H, W) or (H, W, 3) uint8, as `write_file` does."""
    write_file(png_bytes(mask), path)
