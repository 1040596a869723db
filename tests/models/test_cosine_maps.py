from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.models import Prototypes
from synthgen.models.cosine_maps import best_per_class, cosine_maps, of_classes, resize_bilinear, two_best

sides = st.integers(1, 9)


@settings(max_examples=40, deadline=None)
@given(sides, sides, st.integers(1, 20), st.integers(1, 20))
def test_resizing_is_that_of_torch(h: int, w: int, height: int, width: int) -> None:
    maps = np.random.default_rng(h * 100 + w).normal(size=(3, h, w)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(maps)[None], (height, width), mode="bilinear", align_corners=False
    )[0]
    np.testing.assert_allclose(resize_bilinear(maps, (height, width)), expected.numpy(), atol=1e-5)


def test_cosines_are_dot_products_of_unit_vectors() -> None:
    rng = np.random.default_rng(0)
    features, vectors = rng.normal(size=(3, 4, 5)).astype(np.float32), rng.normal(size=(2, 5)).astype(np.float32)
    maps = cosine_maps(features, vectors, (3, 4))
    for p in range(2):
        for y in range(3):
            for x in range(4):
                np.testing.assert_allclose(maps[p, y, x], features[y, x] @ vectors[p], atol=1e-5)


def test_the_best_prototype_of_a_class_counts() -> None:
    maps = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    ids, best = best_per_class(maps, (4, 0, 4))
    assert ids.tolist() == [4, 0]
    np.testing.assert_array_equal(best, maps[[2, 1]])


def test_rows_of_classes_come_in_the_order_of_the_candidates() -> None:
    prototypes = Prototypes((1, 0, 2, 0), np.arange(4, dtype=np.float32)[:, None])
    chosen = of_classes(prototypes, (2, 0, 9))
    assert chosen.ids == (2, 0, 0)
    assert chosen.vectors[:, 0].tolist() == [2, 1, 3]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(0, 1000))
def test_the_two_best_are_those_of_a_sort(count: int, seed: int) -> None:
    maps = np.random.default_rng(seed).integers(0, 4, (count, 3, 4)).astype(np.float32)
    best, top, second = two_best(maps)
    ordered = np.sort(maps, axis=0)[::-1]
    np.testing.assert_array_equal(best, maps.argmax(axis=0))
    np.testing.assert_array_equal(top, ordered[0])
    np.testing.assert_array_equal(second, ordered[1] if count > 1 else np.full((3, 4), -np.inf))
