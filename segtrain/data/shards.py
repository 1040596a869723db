"""Tar shards with an `index.json` as a source of labelled images.

A shard is never held in memory: its headers are walked once, then a sample is one seek and two reads. The tars are also
plain WebDataset shards; whoever wants to stream them over a network can.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segkit.labels import Label, LabelSpace
from segtrain.data.sample import Sample
from segtrain.data.source import IS_URL, identity_of
from segtrain.errors import DataError
from segtrain.pictures import decode_confidence, decode_mask, decode_pair

_SUFFIXES = ("jpg", "png", "conf.png")
_Count = Annotated[int, Field(ge=0)]
_Byte = Annotated[int, Field(ge=0, le=255)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class _IndexClass(_Part):
    id: int = Field(ge=0, le=253)
    name: str
    colour: tuple[_Byte, _Byte, _Byte]


class _IndexSplit(_Part):
    name: str
    num_samples: _Count


class _IndexShard(_Part):
    file: str
    split: str
    num_samples: _Count
    num_bytes: _Count
    sha256: str


class _Index(_Part):
    name: str
    ignore: Literal[255]
    out_of_distribution: Literal[254]
    background: int | None
    classes: tuple[_IndexClass, ...]
    splits: tuple[_IndexSplit, ...]
    shards: tuple[_IndexShard, ...]


class ShardSource:
    """One split of a finished dataset."""

    def __init__(self, folder: Path, split: str) -> None:
        """`split` empty = `validation` if the dataset has one, else `train`.

        Raises DataError on an index or a shard that cannot be used.
        """
        index = _read_index(folder / "index.json")
        names = [s.name for s in index.splits if s.num_samples]
        split = split or ("validation" if "validation" in names else "train")
        if split not in names:
            raise DataError(f"{folder}: no samples in split {split!r}; it has: {', '.join(names) or 'none at all'}")
        classes = tuple(Label(c.id, c.name, c.colour) for c in index.classes)
        self.path, self.split = folder, split
        self.label_space = LabelSpace(index.name, classes, index.background)
        self._shards = tuple(shard for shard in index.shards if shard.split == split and shard.num_samples)
        self._starts = np.cumsum([0, *(shard.num_samples for shard in self._shards)])
        self._members: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for shard in self._shards:
            _check_shard(folder, shard)

    @property
    def group_sizes(self) -> tuple[int, ...]:
        return tuple(shard.num_samples for shard in self._shards)

    @property
    def identity(self) -> dict[str, Any]:
        return identity_of("shards", self.label_space.name, self.split, [shard.sha256 for shard in self._shards])

    def read(self, row: int, *, confidence: bool = False, original: bool = False) -> Sample:
        path, key, places = self._place(row)
        where = f"{path}: sample {key}"
        wanted = [places["jpg"], places["png"]]
        if confidence and "conf.png" in places:
            wanted.append(places["conf.png"])
        image_data, mask_data, *others = _bytes_of(path, wanted)
        image, mask = decode_pair(image_data, mask_data, where)
        return Sample(image, mask, key, where, decode_confidence(others[0], mask.shape, where) if others else None)

    def read_mask(self, row: int) -> np.ndarray:
        path, key, places = self._place(row)
        return decode_mask(_bytes_of(path, [places["png"]])[0], f"{path}: sample {key}")

    def name(self, row: int) -> str:
        return self._place(row)[1]

    def _place(self, row: int) -> tuple[Path, str, dict[str, tuple[int, int]]]:
        """The tar of a row, the key of the sample, and offset and size of each of its members."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        path = self.path / self._shards[number].file
        if number not in self._members:
            self._members[number] = _walk_shard(path, self._shards[number].num_samples)
        keys, places = self._members[number]
        position = row - int(self._starts[number])
        parts = places[position].reshape(len(_SUFFIXES), 2).tolist()
        members = {suffix: (offset, size) for suffix, (offset, size) in zip(_SUFFIXES, parts, strict=True) if offset}
        return path, keys[position].decode(), members


def _read_index(path: Path) -> _Index:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(raw, dict) or raw.get("format") != "synthgen-shards":
        raise DataError(f"{path}: not an index of shards (format must be 'synthgen-shards')")
    if raw.get("version") not in (1, 2):
        raise DataError(f"{path}: version {raw.get('version')!r} of the shard format; this segtrain reads 1 and 2")
    try:
        return _Index.model_validate(raw)
    except ValidationError as error:
        problem = error.errors()[0]
        raise DataError(f"{path}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error


def _check_shard(folder: Path, shard: _IndexShard) -> None:
    """A file cut short is found before the first step, not hours later."""
    if IS_URL.match(shard.file) or Path(shard.file).name != shard.file:
        raise DataError(
            f"{folder / 'index.json'}: shard {shard.file!r} is not a plain file name: only local tars beside the "
            "index are read"
        )
    path = folder / shard.file
    if not path.is_file():
        raise DataError(f"{path}: the index lists this shard, but the file is missing: copy the dataset again")
    size = path.stat().st_size
    if size != shard.num_bytes:
        raise DataError(
            f"{path}: {size} bytes, the index says {shard.num_bytes}: truncated or replaced, copy the dataset again"
        )


def _walk_shard(path: Path, num_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys, and (num_samples, 6) int64: offset and size of each member, 0 and 0 without it. Reads headers only."""
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                if suffix in _SUFFIXES:
                    samples.setdefault(key, {})[suffix] = (member.offset_data, member.size)
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{path}: not a whole tar: {error}") from error
    if len(samples) != num_samples:
        raise DataError(
            f"{path}: {len(samples)} samples, the index says {num_samples}: the shard does not belong to this index"
        )
    for key, members in samples.items():
        for suffix in ("jpg", "png"):
            if suffix not in members:
                raise DataError(f"{path}: sample {key!r} has no {suffix}")
    places = [[n for suffix in _SUFFIXES for n in members.get(suffix, (0, 0))] for members in samples.values()]
    return np.array([key.encode() for key in samples]), np.array(places, dtype=np.int64)


def _bytes_of(path: Path, parts: Sequence[tuple[int, int]]) -> list[bytes]:
    """Each (offset, size) of a file."""
    data = []
    try:
        with path.open("rb") as file:
            for offset, size in parts:
                file.seek(offset)
                data.append(file.read(size))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return data
