"""A finished dataset as a source of labelled images: tar shards with an `index.json` (docs/SHARD_FORMAT.md).

A shard is never held in memory: its headers are walked once, then a sample is one seek and two reads. The tars are also
plain WebDataset shards; whoever wants to stream them over a network can.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from segkit.shards import ShardRows
from segkit.stored import decode_jpeg, decode_png
from segtrain.data.domains import domain_of_metadata
from segtrain.data.sample import Sample
from segtrain.data.source import digest_of, identity_of
from segtrain.errors import DataError


class ShardSource:
    """One split of a finished dataset."""

    def __init__(self, folder: Path, split: str) -> None:
        """`split` empty = `validation` if the dataset has one, else `train`.

        Raises DataError on an index or a shard that cannot be used.
        """
        self._rows = ShardRows(folder, split)
        self.path, self.split, self.label_space = folder, self._rows.split, self._rows.labels

    @property
    def group_sizes(self) -> tuple[int, ...]:
        return tuple(shard.num_samples for shard in self._rows.shards)

    @property
    def identity(self) -> dict[str, Any]:
        return identity_of("shards", self.label_space.name, self.split, [shard.sha256 for shard in self._rows.shards])

    @property
    def has_originals(self) -> bool:
        return self._rows.has_originals

    def original_digest(self, row: int) -> str:
        """Of the members' bytes, both of them."""
        return digest_of(self._rows.read(row, ["orig.jpg", "orig.png"])[0].values())

    def read(self, row: int, *, confidence: bool = False, original: bool = False) -> Sample:
        fields = ["jpg", "png"]
        if confidence:
            fields.append("conf.png")
        if original and self._rows.has_originals:
            fields += ["orig.jpg", "orig.png"]
        data, where = self._rows.read(row, fields)
        image = decode_jpeg(data["jpg"], f"image of {where}", DataError)
        sample = Sample(
            image,
            decode_png(data["png"], f"mask of {where}", DataError),
            self.name(row),
            where,
            decode_png(data["conf.png"], f"confidence of {where}", DataError) if "conf.png" in data else None,
            (
                decode_jpeg(data["orig.jpg"], f"original of {where}", DataError),
                decode_png(data["orig.png"], f"mask of the original of {where}", DataError),
            )
            if "orig.jpg" in data
            else None,
        )
        for part, array in (("mask", sample.mask), ("confidence", sample.confidence), *_originals(sample)):
            if array is not None and array.shape[:2] != image.shape[:2]:
                raise DataError(
                    f"{where}: the image is {image.shape[1]} x {image.shape[0]} px, its {part} "
                    f"{array.shape[1]} x {array.shape[0]}: they must be the same"
                )
        return sample

    def read_mask(self, row: int) -> np.ndarray:
        data, where = self._rows.read(row, ["png"])
        return decode_png(data["png"], f"mask of {where}", DataError)

    def name(self, row: int) -> str:
        return self._rows.key(row)

    def domain(self, row: int) -> str:
        data, where = self._rows.read(row, ["json"])
        return domain_of_metadata(data["json"], f"JSON of {where}")


def _originals(sample: Sample) -> list[tuple[str, np.ndarray]]:
    return [] if sample.original is None else list(zip(("original", "original's mask"), sample.original, strict=True))
