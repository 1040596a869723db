"""How fast shards are written and checked: rows pack/*.

Drawn streets of 64 x 96 px and of 512 x 768 px, encoded before and held in memory, are written into one shard, flushed
to the disk: `ours` by synthgen.pack.tar.write_shard, which checks keys and metadata and takes the sha256 as it goes,
`tarwriter` by webdataset.TarWriter followed by os.fsync, `tarwriter_sha256` the same with the file read again for the
sha256 that an index needs. `pack/verify_*` reads a dataset as `synthgen verify` does with one worker: sha256, members,
all three pictures decoded, every pixel of a mask counted. Beside it `pack/decode_*`, which decodes the same three with
Pillow and checks nothing, and `pack/sha256_*`, the least that reading every byte costs. Rounds in turn; spread is over
rounds.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import reading
from benchmarks.row import Row, spread_of
from segkit.metadata import read_metadata
from segkit.shards import ShardRows
from synthgen.dataset.verify import verify
from synthgen.pack.tar import PackedSample, write_shard

SAMPLES = {64: 4_096, 512: 256}  # height in px -> samples of a shard
WRITERS = ("ours", "tarwriter", "tarwriter_sha256")
CHECKS = ("verify", "decode", "sha256")
ROUNDS = 7
WRITE_ROWS = tuple(f"pack/{writer}_{size}" for size in SAMPLES for writer in WRITERS)
CHECK_ROWS = tuple(f"pack/{check}_{size}" for size in SAMPLES for check in CHECKS)


def writers() -> Iterator[Row]:
    """pack/{ours,tarwriter,tarwriter_sha256}_{64,512}: MB/s."""
    for size, count in SAMPLES.items():
        yield from writer_rows(packed(reading.dataset(size), count), size)


def checks() -> Iterator[Row]:
    """pack/{verify,decode,sha256}_{64,512}: MB/s."""
    for size in SAMPLES:
        yield from check_rows(reading.dataset(size), size)


def packed(dataset: Path, count: int) -> list[PackedSample]:
    """The first `count` samples of the split `train`, or all; keys are theirs."""
    rows = ShardRows(dataset, "train")
    fields = ("jpg", "png", "conf.png", "json")
    found = []
    for row in range(min(count, sum(shard.num_samples for shard in rows.shards))):
        data, where = rows.read(row, fields)
        jpg, png, conf_png = (data[name] for name in fields[:3])
        found.append(PackedSample(jpg, png, conf_png, read_metadata(data["json"], where)))
    return found


def writer_rows(samples: Sequence[PackedSample], size: int, rounds: int = ROUNDS) -> Iterator[Row]:
    """Of samples in the order of their keys."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "train-000000.tar"
        ways: dict[str, Callable[[], object]] = {
            "ours": lambda: write_shard(path, samples),
            "tarwriter": lambda: _tarwriter(path, samples),
            "tarwriter_sha256": lambda: hashlib.sha256(_tarwriter(path, samples).read_bytes()).hexdigest(),
        }
        megabytes = write_shard(path, samples).num_bytes / 1e6
        yield from _rows(ways, size, megabytes, rounds)


def _tarwriter(path: Path, samples: Sequence[PackedSample]) -> Path:
    import webdataset

    with path.open("wb") as file:
        with webdataset.TarWriter(file) as writer:
            for sample in samples:
                parts = {"jpg": sample.jpg, "png": sample.png, "conf.png": sample.conf_png}
                writer.write({"__key__": sample.key, **parts, "json": dict(sample.metadata)})
        file.flush()
        os.fsync(file.fileno())
    return path


def check_rows(dataset: Path, size: int, rounds: int = ROUNDS) -> Iterator[Row]:
    """Of a whole dataset."""
    shards = sorted(dataset.glob("*.tar"))

    def check() -> None:
        problems = verify(dataset)
        if problems:
            raise RuntimeError(f"{dataset}: {problems[0]}")

    ways: dict[str, Callable[[], object]] = {
        "verify": check,
        "decode": lambda: [_pixels(path) for path in shards],
        "sha256": lambda: [hashlib.sha256(path.read_bytes()).hexdigest() for path in shards],
    }
    yield from _rows(ways, size, sum(path.stat().st_size for path in shards) / 1e6, rounds)


def _pixels(shard: Path) -> int:
    """Decodes images, masks and confidences; how many values they had."""
    count = 0
    with tarfile.open(shard) as tar:
        for member in tar:
            if member.name.endswith((".jpg", ".png")):
                file = tar.extractfile(member)
                assert file is not None
                count += np.asarray(Image.open(io.BytesIO(file.read()))).size
    return count


def _rows(ways: Mapping[str, Callable[[], object]], size: int, megabytes: float, rounds: int) -> Iterator[Row]:
    """The first round is not counted: it fills the cache of files."""
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, call in ways.items():
            began = time.perf_counter()
            call()
            if number:
                speeds[way].append(megabytes / (time.perf_counter() - began))
    for way, of_way in speeds.items():
        yield Row(f"pack/{way}_{size}", float(np.median(of_way)), "MB/s", spread_of(of_way), rounds)
