"""How many pixels of each class each image of a source shows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from segtrain.data.source import Source
from segtrain.errors import DataError

_READERS = 4


def class_pixels(source: Source) -> np.ndarray:
    """(samples, 256) int64: pixels of each id in each mask. Reads every mask once."""
    num_samples = sum(source.group_sizes)
    if not num_samples:
        raise DataError(f"{source.path}: no images")
    with ThreadPoolExecutor(_READERS) as pool:
        return np.stack(
            list(pool.map(lambda row: np.bincount(source.read_mask(row).ravel(), minlength=256), range(num_samples)))
        )
