"""`index.json` of a finished dataset, typed (docs/SHARD_FORMAT.md). It is written last: where it is, all is whole.

Version 2 may list more members than version 1 (the original of a pair); both are read. Keys that a later addition
brings are passed over.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from segkit.documents import require_unique_keys
from segkit.errors import DatasetError, LabelError
from segkit.files import read_regular
from segkit.labels import Label, LabelSpace
from segkit.metadata import MEMBERS, ORIGINAL_MEMBERS
from segkit.printable import printable

INDEX_FILE = "index.json"
FORMAT: Literal["synthgen-shards"] = "synthgen-shards"
VERSION: Literal[2] = 2
"""What is written; version 1 is read too."""
MAX_INDEX_BYTES = 2**32  # some ten million samples
SPLIT_FORM = r"[a-z][a-z0-9_]*"
# a plain file name: an index from elsewhere cannot point out of its folder
SHARD_FORM = rf"^{SPLIT_FORM}-[0-9]{{6,9}}\.tar$"

Count = Annotated[int, Field(ge=0, lt=2**53)]
Byte = Annotated[int, Field(ge=0, le=255)]


Kind = TypeVar("Kind", bound="IndexHead")


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class ClassEntry(_Part):
    """One class of the label space."""

    id: Annotated[int, Field(ge=0, le=253)]
    name: str
    colour: tuple[Byte, Byte, Byte]


class SplitEntry(_Part):
    name: Annotated[str, Field(pattern=f"^{SPLIT_FORM}$")]
    num_samples: Count
    num_shards: Count


class ShardEntry(_Part):
    file: Annotated[str, Field(pattern=SHARD_FORM)]
    split: Annotated[str, Field(pattern=f"^{SPLIT_FORM}$")]
    num_samples: Count
    num_bytes: Count
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ClassPixels(_Part):
    """Labelled pixels of one class over all samples, and in how many samples it occurs."""

    id: Byte
    name: str
    pixels: Count
    samples: Count


class SampleEntry(_Part):
    """One sample, in shard and tar order. `pixels` lists (id, count) of the ids that occur, 255 too, sorted by id."""

    key: str
    shard: Count
    class_id: Byte
    pixels: tuple[tuple[Byte, Count], ...]


class IndexHead(_Part):
    """The index without its samples: what reading by row needs."""

    format: Literal["synthgen-shards"] = FORMAT
    version: Literal[1, 2] = VERSION
    name: str
    members: tuple[str, ...] = MEMBERS
    ignore: Literal[255] = 255
    out_of_distribution: Literal[254] = 254
    background: Byte | None
    classes: tuple[ClassEntry, ...]
    num_samples: Count
    splits: tuple[SplitEntry, ...]
    shards: tuple[ShardEntry, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        known = (MEMBERS,) if self.version == 1 else (MEMBERS, MEMBERS + ORIGINAL_MEMBERS)
        if self.members not in known:
            raise ValueError(f"members must be {' or '.join(', '.join(members) for members in known)}")
        listed = Counter(split.name for split in self.splits)
        for name, count in listed.items():
            if count > 1:
                raise ValueError(f"split {name!r} is listed {count} times")
        for shard in self.shards:
            if shard.split not in listed:
                raise ValueError(f"split {shard.split!r} of a shard is not listed")
            if not shard.file.startswith(f"{shard.split}-"):
                raise ValueError(f"shard {shard.file} is not named after its split {shard.split!r}")
        return self

    def label_space(self, where: str = INDEX_FILE) -> LabelSpace:
        """The classes as a label space. Raises DatasetError, with `where`, if they make none."""
        try:
            labels = tuple(Label(entry.id, entry.name, entry.colour) for entry in self.classes)
            return LabelSpace(self.name, labels, self.background)
        except LabelError as error:
            raise DatasetError(f"{where}: {error}") from error


class Index(IndexHead):
    """The whole index."""

    class_pixels: tuple[ClassPixels, ...]
    samples: tuple[SampleEntry, ...]


def is_finished(folder: Path) -> bool:
    """Whether a folder is a finished dataset: its pictures lie in shards, and picture files beside them are others."""
    return (folder / INDEX_FILE).is_file() and any(folder.glob("*.tar"))


def read_index(folder: Path) -> Index:
    """Read and type-check the index; its sums and files are for `verify`. Raises DatasetError in one line."""
    return _read(folder / INDEX_FILE, Index)


def read_index_head(folder: Path) -> IndexHead:
    """The same without the samples, which are nearly all of it. Raises DatasetError in one line."""
    return _read(folder / INDEX_FILE, IndexHead)


def _read(path: Path, kind: type[Kind]) -> Kind:
    if not path.exists():
        raise DatasetError(f"{path}: no such file; a dataset without it is not finished, run `synthgen pack` again")
    data = read_regular(path, MAX_INDEX_BYTES, DatasetError)
    require_unique_keys(data, str(path), DatasetError)
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        message = problem["msg"].removeprefix("Value error, ")
        raise DatasetError(printable(f"{path}: {place + ': ' if place else ''}{message}")) from error
