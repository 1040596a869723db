"""`index.json` of a finished dataset, typed (docs/SHARD_FORMAT.md). It is written last: where it is, the
dataset is whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segkit.labels import Label, LabelSpace
from synthgen.errors import DatasetError, LabelError

INDEX_FILE = "index.json"
FORMAT: Literal["synthgen-shards"] = "synthgen-shards"
VERSION: Literal[1] = 1
SPLIT_FORM = r"[a-z][a-z0-9_]*"
# a plain file name: an index from elsewhere cannot point out of its folder
SHARD_FORM = rf"^{SPLIT_FORM}-[0-9]{{6,9}}\.tar$"

Count = Annotated[int, Field(ge=0)]
Byte = Annotated[int, Field(ge=0, le=255)]


class _Part(BaseModel):
    # keys that a later minor addition brings are passed over
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
    split: str
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
    """One sample, in shard and tar order. `pixels` lists (id, count) of the ids that occur, 255 too, sorted
    by id.
    """

    key: str
    shard: Count
    class_id: Byte
    pixels: tuple[tuple[Byte, Count], ...]


class Index(_Part):
    """The whole index."""

    format: Literal["synthgen-shards"] = FORMAT
    version: Literal[1] = VERSION
    name: str
    members: tuple[Literal["jpg"], Literal["png"], Literal["conf.png"], Literal["json"]] = (
        "jpg",
        "png",
        "conf.png",
        "json",
    )
    ignore: Literal[255] = 255
    out_of_distribution: Literal[254] = 254
    background: Byte | None
    classes: tuple[ClassEntry, ...]
    num_samples: Count
    splits: tuple[SplitEntry, ...]
    shards: tuple[ShardEntry, ...]
    class_pixels: tuple[ClassPixels, ...]
    samples: tuple[SampleEntry, ...]

    def label_space(self, where: str = INDEX_FILE) -> LabelSpace:
        """The classes as a label space. Raises DatasetError, with `where`, if they make none."""
        try:
            labels = tuple(Label(entry.id, entry.name, entry.colour) for entry in self.classes)
            return LabelSpace(self.name, labels, self.background)
        except LabelError as error:
            raise DatasetError(f"{where}: {error}") from error


def read_index(folder: Path) -> Index:
    """Read and type-check the index; its sums and files are for `verify`. Raises DatasetError in one line."""
    path = folder / INDEX_FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DatasetError(
            f"{path}: no such file; a dataset without it is not finished, run `synthgen pack` again"
        ) from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        return Index.model_validate_json(data)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise DatasetError(f"{path}: {place + ': ' if place else ''}{problem['msg']}") from error


def index_bytes(index: Index) -> bytes:
    """The JSON text, one sample, shard or class a line. The same index gives the same bytes."""
    return b"".join(index_chunks(index, index.samples))


def index_chunks(index: Index, samples: Iterable[SampleEntry]) -> Iterator[bytes]:
    """The same text in pieces, with these samples instead of the index's own: they need not fit into memory."""
    for name in Index.model_fields:
        yield (b"{\n" if name == "format" else b",\n") + f'  "{name}": '.encode()
        value = samples if name == "samples" else getattr(index, name)
        if name == "samples" or (isinstance(value, tuple) and name != "members"):
            mark = b"[\n"
            for row in value:
                yield mark + f"    {row.model_dump_json()}".encode()
                mark = b",\n"
            yield b"[]" if mark == b"[\n" else b"\n  ]"
        else:
            yield json.dumps(value, ensure_ascii=False).encode()
    yield b"\n}\n"
