"""Cases for the readers of tars and pictures: shards as a training opens them, masks and photographs as people bring
them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import fuzz
from benchmarks.drawn_dataset import drawn_dataset
from benchmarks.fuzz_documents import damaged
from segkit.index import read_index
from segkit.masks import decode_mask
from segkit.pictures import decode_image
from segtrain.data.shards import ShardSource

Rng = np.random.Generator


def tar(scratch: Path) -> tuple[Any, Any, Any]:
    """A shard damaged in the ways of benchmarks/fuzz.py, read by segtrain sample after sample: nothing may come through
    that is not what was packed."""
    folder = drawn_dataset(scratch / "run", count=4, size_px=32)
    shard = next(entry for entry in read_index(folder).shards if entry.split == "train")
    path = folder / shard.file
    whole = path.read_bytes()
    right = _samples(folder)

    def cases(rng: Rng) -> Iterator[bytes]:
        while True:
            for damage in fuzz.DAMAGES.values():
                yield damage(whole, rng)

    def read(case: bytes) -> Any:
        path.write_bytes(case)
        return _samples(folder)

    return cases, read, lambda case, value: value != right


def _samples(folder: Path) -> list[bytes]:
    """The mask of each: a flipped bit in a JPEG is another sound picture, which `synthgen verify` finds."""
    source = ShardSource(folder, "train")
    return [source.read(row).mask.tobytes() for row in range(sum(source.group_sizes))]


def png(scratch: Path) -> tuple[Any, Any, Any]:
    """A mask, whose pixels may never be others than they were, and photographs of the kinds that people bring."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 4, (24, 30)).astype(np.uint8)
    colours = rng.integers(0, 256, (24, 30, 3)).astype(np.uint8)
    kinds = {"mask": _saved(Image.fromarray(ids), "PNG"), "PNG": _saved(Image.fromarray(colours), "PNG")}
    kinds |= {kind: _saved(Image.fromarray(colours), kind) for kind in ("JPEG", "WEBP", "BMP", "TIFF")}

    def cases(rng: Rng) -> Iterator[tuple[str, bytes]]:
        while True:
            for kind in ("mask", "PNG", "mask", "JPEG", "mask", "PNG", "WEBP", "mask", "BMP", "TIFF"):
                yield kind, damaged(kinds[kind], rng)

    def read(case: tuple[str, bytes]) -> np.ndarray:
        return decode_mask(case[1], "mask") if case[0] == "mask" else decode_image(case[1], "photograph")

    def is_silent(case: tuple[str, bytes], value: np.ndarray) -> bool:
        right = {"mask": ids, "PNG": colours}.get(case[0])
        return right is not None and not np.array_equal(value, right)

    return cases, read, is_silent


def _saved(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


READERS = {"tar": tar, "png": png}
