"""What a source of labelled images is: any sample can be read by its row.

So the data order can be a function of (seed, step) for every number of workers, and a resumed training needs no replay.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from segkit.labels import LabelSpace, read_label_space
from segtrain.data.sample import Sample

IS_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:")
_LABEL_SPACES = Path(__file__).parent / "label_spaces"


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

    def read(self, row: int, *, confidence: bool = False, original: bool = False) -> Sample:
        """The sample; its confidence and its original only if asked for: else they are not even read.

        Raises DataError.
        """
        ...

    def read_mask(self, row: int) -> np.ndarray:
        """(H, W) uint8 ids, alone: what counting classes needs. Raises DataError."""
        ...

    def name(self, row: int) -> str:
        """Of the sample, for reports: its file or its key. Reads no picture."""
        ...

    def domain(self, row: int) -> str:
        """Of the sample, as its source declares it (`segtrain.data.domains`); "" if it does not. Raises DataError."""
        ...


class PairedSource(Source, Protocol):
    """A source whose samples may come with the picture and mask that they were made from."""

    @property
    def has_originals(self) -> bool:
        """Whether all of them do."""
        ...

    def original_digest(self, row: int) -> str:
        """A checksum of the stored original: rows that have the same are variants of one picture. Raises DataError."""
        ...


def digest_of(contents: Iterable[bytes]) -> str:
    """A checksum of several files' bytes, each by its own."""
    return hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest()


def identity_of(kind: str, name: str, split: str, content: list[Any]) -> dict[str, Any]:
    """The identity of a source; `content` is plain JSON values that change when its samples do."""
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return {"kind": kind, "name": name, "split": split, "content": digest}


def benchmark_label_space(name: str) -> LabelSpace:
    """`voc`, `coco`, `cityscapes` or `anomaly`: the classes of a public benchmark, which its files do not name."""
    return read_label_space(_LABEL_SPACES / f"{name}.yaml")
