"""A small finished dataset, made in memory with the shard writer alone, and ways to damage it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segkit.index import ClassEntry, Index, SampleEntry, ShardEntry, SplitEntry
from segkit.metadata import FIELDS, metadata_bytes
from segkit.ustar import RECORD, member_header, padding
from synthgen.dataset.verify import class_pixels_of
from synthgen.images import jpeg_bytes, png_bytes
from synthgen.pack.index import index_bytes
from synthgen.pack.tar import PackedSample, write_shard

CLASSES = {0: "background", 1: "disc", 3: "star"}
SHARDS = (("train", 0, (0, 1, 2)), ("train", 1, (3,)), ("validation", 0, (4, 5)))


@dataclasses.dataclass
class Made:
    """A finished dataset; `arrays` are what went in, by key."""

    folder: Path
    arrays: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
    members: dict[str, list[tuple[str, bytes]]]  # tar name -> (member name, bytes)

    def index(self) -> dict[str, Any]:
        return json.loads((self.folder / "index.json").read_text())  # type: ignore[no-any-return]

    def write_index(self, index: dict[str, Any]) -> None:
        (self.folder / "index.json").write_text(json.dumps(index))

    def reseal(self) -> None:
        """Put the true sizes and hashes into the index, as someone would who damages with intent:

        the deeper checks must speak.
        """
        index = self.index()
        for shard in index["shards"]:
            data = (self.folder / shard["file"]).read_bytes()
            shard.update(num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        self.write_index(index)

    def rewrite(self, file: str, members: list[tuple[str, bytes]]) -> None:
        """Write a tar of any members, in the canonical form, and reseal."""
        parts = [member_header(name, len(data)) + data + padding(len(data)) for name, data in members]
        body = b"".join(parts) + bytes(1024)
        (self.folder / file).write_bytes(body + padding(len(body), RECORD))
        self.reseal()

    def replace(self, member: str, data: bytes) -> None:
        """Give one member other bytes."""
        file, members = next((f, m) for f, m in self.members.items() if member in dict(m))
        self.rewrite(file, [(name, data if name == member else old) for name, old in members])


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_dataset(tmp_path / "dataset")


@pytest.fixture(scope="session")
def make() -> Callable[[Path], Made]:
    return make_dataset


def make_dataset(folder: Path) -> Made:
    folder.mkdir()
    result = Made(folder, {}, {})
    shards: list[ShardEntry] = []
    rows: list[SampleEntry] = []
    for split, number, seeds in SHARDS:
        file = f"{split}-{number:06d}.tar"
        packed = [_packed(result, split, seed) for seed in seeds]
        written = write_shard(folder / file, packed)
        result.members[file] = [
            (f"{sample.key}.{field}", data)
            for sample in packed
            for field, data in zip(
                ("jpg", "png", "conf.png", "json"),
                (sample.jpg, sample.png, sample.conf_png, metadata_bytes(sample.metadata)),
                strict=True,
            )
        ]
        for sample in packed:
            ids, counts = np.unique(result.arrays[sample.key][1], return_counts=True)
            pixels = tuple((int(i), int(n)) for i, n in zip(ids, counts, strict=True))
            rows.append(
                SampleEntry(key=sample.key, shard=len(shards), class_id=sample.metadata["class_id"], pixels=pixels)
            )
        shards.append(
            ShardEntry(
                file=file,
                split=split,
                num_samples=written.num_samples,
                num_bytes=written.num_bytes,
                sha256=written.sha256,
            )
        )
    index = Index(
        name="made",
        background=0,
        classes=tuple(ClassEntry(id=i, name=name, colour=(i, 2 * i, 40)) for i, name in CLASSES.items()),
        num_samples=len(rows),
        splits=(
            SplitEntry(name="train", num_samples=4, num_shards=2),
            SplitEntry(name="validation", num_samples=2, num_shards=1),
        ),
        shards=tuple(shards),
        class_pixels=class_pixels_of(CLASSES, tuple(rows)),
        samples=tuple(rows),
    )
    (folder / "index.json").write_bytes(index_bytes(index))
    return result


def _packed(made: Made, split: str, seed: int) -> PackedSample:
    rng = np.random.default_rng(seed)
    size = (9 + seed, 12)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    mask = rng.choice(np.array([0, 1, 3, 254, 255], dtype=np.uint8), size)
    confidence = rng.integers(0, 256, size, dtype=np.uint8)
    key = f"s{seed:03d}"
    made.arrays[key] = (image, mask, confidence)
    class_id = (1, 3, 255)[seed % 3]
    plain: dict[Any, Any] = {float: 0.5, int: 3, str: "text", tuple[str, ...]: ("a=b", "c=d")}
    metadata = {
        **{name: plain[kind] for name, kind in FIELDS.items()},
        "key": key,
        "split": split,
        "class_id": class_id,
        "class_name": CLASSES.get(class_id, ""),
        "height_px": size[0],
        "width_px": size[1],
    }
    return PackedSample(jpeg_bytes(image), png_bytes(mask), png_bytes(confidence), metadata)
