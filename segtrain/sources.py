"""What a source of labelled images is: any sample can be read by its row.

So the data order can be a function of (seed, step) for every number of workers, and a resumed training needs no replay.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from segtrain.labels import LabelSpace

IS_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:")


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

    def read_mask(self, row: int) -> tuple[np.ndarray, str]:
        """The mask and the name alone: what counting classes needs."""
        ...


def identity_of(kind: str, name: str, split: str, content: list[Any]) -> dict[str, Any]:
    """The identity of a source; `content` is plain JSON values that change when its samples do."""
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return {"kind": kind, "name": name, "split": split, "content": digest}
