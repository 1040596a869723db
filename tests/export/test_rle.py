"""Run-length code and box of COCO, against a decoder written from the format."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from synthgen.sources.rle import box_xywh, coco_rle

MASKS = npst.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.booleans())


def _decoded(code: dict[str, object]) -> np.ndarray:
    height, width = code["size"]  # type: ignore[misc]
    runs: list[int] = []
    letters = iter(str(code["counts"]))
    for letter in letters:
        value, shift = 0, 0
        while True:
            bits = ord(letter) - 48
            value |= (bits & 31) << shift
            shift += 5
            if not bits & 32:
                break
            letter = next(letters)
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    flat = np.concatenate([np.full(run, number % 2 == 1) for number, run in enumerate(runs)])
    return flat.reshape(width, height).T


@settings(max_examples=80, deadline=None)
@given(MASKS)
def test_the_code_comes_back(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(_decoded(coco_rle(mask)), mask)


def test_long_runs() -> None:
    mask = np.zeros((700, 900), dtype=bool)
    mask[3:690, 100:800] = True
    np.testing.assert_array_equal(_decoded(coco_rle(mask)), mask)
    assert box_xywh(mask) == [100, 3, 700, 687]


def test_it_is_the_text_of_pycocotools() -> None:
    coder = pytest.importorskip(
        "pycocotools.mask", reason="pycocotools is not installed: the text is compared with our own decoder only"
    )
    rng = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5, 0.98, 1.0):
        mask = rng.random((37, 53)) < share
        assert coco_rle(mask)["counts"] == coder.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()
