"""Where labelled images come from: tar shards with an `index.json`, or a folder with `images/` and `labels/`.

Both give any sample by its row, so that the data order can be a function of (seed, step) for every number of workers and a resumed training
needs no replay. A shard is never held in memory: its headers are walked once, then a sample is one seek and two reads. The tars are also
plain WebDataset shards; whoever wants to stream them over a network can.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segtrain.errors import DataError
from segtrain.labels import LabelClass, LabelSpace, read_label_space

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:")
_Count = Annotated[int, Field(ge=0)]
_Byte = Annotated[int, Field(ge=0, le=255)]


class Source(Protocol):
    """Labelled images that can be read by row."""

    path: Path
    split: str
    label_space: LabelSpace

    @property
    def group_sizes(self) -> tuple[int, ...]:
        """Number of samples of each part that lies together on disk: a shard, or the one folder."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """Says of two sources whether they hold the same, wherever they lie."""
        ...

    def read(self, row: int) -> tuple[np.ndarray, np.ndarray, str]:
        """Image (H, W, 3) uint8 RGB, mask (H, W) uint8 ids, and a name for error messages. Raises DataError."""
        ...


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
        """`split` empty = `validation` if the dataset has one, else `train`. Raises DataError on an index or a shard that cannot be used."""
        index = _read_index(folder / "index.json")
        names = [s.name for s in index.splits if s.num_samples]
        split = split or ("validation" if "validation" in names else "train")
        if split not in names:
            raise DataError(f"{folder}: no samples in split {split!r}; it has: {', '.join(names) or 'none at all'}")
        classes = tuple(LabelClass(c.id, c.name, c.colour) for c in index.classes)
        self.path, self.split = folder, split
        self.label_space = LabelSpace(index.name, classes, index.background)
        self._shards = tuple(shard for shard in index.shards if shard.split == split and shard.num_samples)
        self._starts = np.cumsum([0, *(shard.num_samples for shard in self._shards)])
        self._members: dict[int, np.ndarray] = {}
        for shard in self._shards:
            _check_shard(folder, shard)

    @property
    def group_sizes(self) -> tuple[int, ...]:
        return tuple(shard.num_samples for shard in self._shards)

    @property
    def identity(self) -> dict[str, Any]:
        return _identity("shards", self.label_space.name, self.split, [shard.sha256 for shard in self._shards])

    def read(self, row: int) -> tuple[np.ndarray, np.ndarray, str]:
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        path = self.path / self._shards[number].file
        if number not in self._members:
            self._members[number] = _walk_shard(path, self._shards[number].num_samples)
        position = row - int(self._starts[number])
        image_at, image_bytes, mask_at, mask_bytes = self._members[number][position].tolist()
        where = f"{path}: sample {position}"
        try:
            with path.open("rb") as file:
                file.seek(image_at)
                image = file.read(image_bytes)
                file.seek(mask_at)
                mask = file.read(mask_bytes)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        return (*_decode_pair(image, mask, where), where)


class FolderSource:
    """`images/` (JPEG or PNG) and `labels/` (8-bit PNG of ids, same stem); `labels.yaml` beside them names the classes."""

    split = "all"

    def __init__(self, folder: Path, label_space: LabelSpace | None) -> None:
        """`label_space` serves if there is no `labels.yaml`. Raises DataError if there is neither, or if the stems do not match."""
        if (folder / "labels.yaml").is_file():
            label_space = read_label_space(folder / "labels.yaml")
        if label_space is None:
            raise DataError(
                f"{folder}: no labels.yaml beside images/ and no sharded dataset to take the classes from: "
                "add one with name and labels: [{id, name, colour}]"
            )
        self.path, self.label_space = folder, label_space
        images = _by_stem(folder / "images", IMAGE_SUFFIXES)
        labels = _by_stem(folder / "labels", (".png",))
        if not images:
            raise DataError(f"{folder / 'images'}: no images ({', '.join(IMAGE_SUFFIXES)})")
        for here, there, other in ((images, labels, "labels"), (labels, images, "images")):
            alone = sorted(set(here) - set(there))
            if alone:
                raise DataError(f"{here[alone[0]]}: no file {alone[0]}.* in {folder / other} ({len(alone)} such in all): each image needs its mask")
        self._pairs = [(images[stem], labels[stem]) for stem in sorted(images)]

    @property
    def group_sizes(self) -> tuple[int, ...]:
        return (len(self._pairs),)

    @property
    def identity(self) -> dict[str, Any]:
        # Names and sizes: the bytes of a large folder would take minutes at each start.
        files = [[image.name, image.stat().st_size, mask.stat().st_size] for image, mask in self._pairs]
        return _identity("folder", self.label_space.name, self.split, files)

    def read(self, row: int) -> tuple[np.ndarray, np.ndarray, str]:
        image, mask = self._pairs[row]
        try:
            return (*_decode_pair(image.read_bytes(), mask.read_bytes(), str(image)), str(image))
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error


def open_source(path: str | Path, split: str, label_space: LabelSpace | None) -> Source:
    """A finished dataset (has `index.json`) or a labelled folder (has `images/` and `labels/`).

    `label_space` is the one of a folder that brings none. Raises DataError on anything else, URLs included: reading one may run a shell command
    (`pipe:`), and a dataset is downloaded before it is trained on.
    """
    if _URL.match(str(path)):
        raise DataError(f"{path}: only local folders are read, no URLs and no pipes: download the dataset first")
    folder = Path(path)
    if (folder / "index.json").is_file():
        return ShardSource(folder, split)
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        return FolderSource(folder, label_space)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    raise DataError(f"{folder}: neither a finished dataset (no index.json, which is written last) nor a labelled folder (no images/ and labels/)")


def brings_label_space(path: str | Path) -> bool:
    """Whether a source names its classes itself: finished datasets do, labelled folders may."""
    return any((Path(path) / name).is_file() for name in ("index.json", "labels.yaml"))


def _read_index(path: Path) -> _Index:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(raw, dict) or raw.get("format") != "synthgen-shards":
        raise DataError(f"{path}: not an index of shards (format must be 'synthgen-shards')")
    if raw.get("version") != 1:
        raise DataError(f"{path}: version {raw.get('version')!r} of the shard format; this segtrain reads version 1")
    try:
        return _Index.model_validate(raw)
    except ValidationError as error:
        problem = error.errors()[0]
        raise DataError(f"{path}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error


def _check_shard(folder: Path, shard: _IndexShard) -> None:
    """A file cut short is found before the first step, not hours later."""
    if _URL.match(shard.file) or Path(shard.file).name != shard.file:
        raise DataError(f"{folder / 'index.json'}: shard {shard.file!r} is not a plain file name: only local tars beside the index are read")
    path = folder / shard.file
    if not path.is_file():
        raise DataError(f"{path}: the index lists this shard, but the file is missing: copy the dataset again")
    size = path.stat().st_size
    if size != shard.num_bytes:
        raise DataError(f"{path}: {size} bytes, the index says {shard.num_bytes}: truncated or replaced, copy the dataset again")


def _walk_shard(path: Path, num_samples: int) -> np.ndarray:
    """(num_samples, 4) int64: offset and size of the image, offset and size of the mask. Reads headers only."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                if suffix in ("jpg", "png"):
                    found.setdefault(key, {})[suffix] = (member.offset_data, member.size)
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{path}: not a whole tar: {error}") from error
    if len(found) != num_samples:
        raise DataError(f"{path}: {len(found)} samples, the index says {num_samples}: the shard does not belong to this index")
    for key, members in found.items():
        if len(members) != 2:
            raise DataError(f"{path}: sample {key!r} has no {'png' if 'jpg' in members else 'jpg'}")
    return np.array([[*members["jpg"], *members["png"]] for members in found.values()], dtype=np.int64)


def _decode_pair(image_bytes: bytes, mask_bytes: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    image = _decode(image_bytes, f"image of {where}")
    mask = _decode(mask_bytes, f"mask of {where}")
    if mask.mode not in ("L", "P"):
        raise DataError(f"mask of {where}: mode {mask.mode}, must be an 8-bit PNG of class ids (L or P)")
    if image.size != mask.size:
        raise DataError(f"{where}: the image is {image.width} x {image.height} px, its mask {mask.width} x {mask.height}: they must be the same")
    return np.asarray(image.convert("RGB")), np.asarray(mask)


def _decode(data: bytes, where: str) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except UnidentifiedImageError as error:
        raise DataError(f"{where}: not an image file") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        # Pillow reports a broken PNG chunk as SyntaxError.
        raise DataError(f"{where}: cannot be decoded: {' '.join(str(error).split())}") from error
    return picture


def _identity(kind: str, name: str, split: str, content: list[Any]) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return {"kind": kind, "name": name, "split": split, "content": digest}


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in found:
            raise DataError(f"{folder}: both {found[path.stem].name} and {path.name}: a stem may occur only once")
        found[path.stem] = path
    return found
