"""COCO's run-length code of a binary mask, without pycocotools at run time."""

from __future__ import annotations

import numpy as np


def coco_rle(mask: np.ndarray) -> dict[str, object]:
    """`{"size": [h, w], "counts": text}` of an (H, W) bool mask:

    runs in column order, the first one of zeros (0 long if need be).

    The text is that of pycocotools: each run less the one two before it (from the fourth run on), in groups of 5 bits,
    lowest first, a sixth bit where more follow, 48 added.
    """
    flat = np.asarray(mask, dtype=bool).ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate(([0], edges)) if flat.size else np.zeros(0, dtype=np.int64)
    runs = np.diff(np.concatenate((starts, [flat.size]))).tolist()
    if flat.size and flat[0]:
        runs.insert(0, 0)
    text = []
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        while True:
            bits = value & 31
            value >>= 5
            last = value == (-1 if bits & 16 else 0)
            text.append(chr(bits + (0 if last else 32) + 48))
            if last:
                break
    return {"size": [int(mask.shape[0]), int(mask.shape[1])], "counts": "".join(text)}


def box_xywh(mask: np.ndarray) -> list[int]:
    """[x, y, width, height] in pixels around an (H, W) bool mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]
