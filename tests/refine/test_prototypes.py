from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from segkit.labels import IGNORE
from synthgen.models import Prototypes
from synthgen.refine.prototypes import (
    background_centres,
    masked_average,
    pixels_per_cell,
    support_prototypes,
    support_sums,
)


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def prototypes_of(
    labelled: Iterable[tuple[np.ndarray, np.ndarray]], class_ids: Sequence[int], background: int | None, count: int
) -> Prototypes:
    sums = (support_sums(features, mask, class_ids, background) for features, mask in labelled)
    return support_prototypes(sums, class_ids, background, count)


@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (7, 2), (16, 12)])
def test_every_pixel_counts_in_the_cell_that_holds_its_centre(grid: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    index = rng.integers(-1, 4, (8, 12))
    expected = np.zeros((3, *grid))
    for y in range(8):
        for x in range(12):
            if 0 <= index[y, x] < 3:
                expected[index[y, x], int((y + 0.5) / 8 * grid[0]), int((x + 0.5) / 12 * grid[1])] += 1
    np.testing.assert_array_equal(pixels_per_cell(index, 3, grid), expected.reshape(3, -1))


def test_masked_average_is_the_mean_over_upsampled_features() -> None:
    rng = np.random.default_rng(1)
    features, index = unit(rng, 4, 4, 6), rng.integers(-1, 3, (12, 8))
    upsampled = features.repeat(3, axis=0).repeat(2, axis=1)
    for n, got in enumerate(masked_average(features, index, 4)):
        if n == 3:
            assert not got.any()
            continue
        mean = upsampled[index == n].mean(axis=0)
        np.testing.assert_allclose(got, mean / np.linalg.norm(mean), atol=1e-5)


def test_one_prototype_a_class_over_all_images() -> None:
    rng = np.random.default_rng(2)
    features = [unit(rng, 4, 4, 5) for _ in range(3)]
    masks = [rng.choice(np.array([0, 3, 7, 9, IGNORE], np.uint8), (4, 4)) for _ in range(3)]
    prototypes = prototypes_of(zip(features, masks, strict=True), (7, 3), 0, 1)
    assert prototypes.ids == (7, 3, 0)
    for k, vector in zip(prototypes.ids, prototypes.vectors, strict=True):
        total = sum(f[m == k].sum(axis=0) for f, m in zip(features, masks, strict=True))
        np.testing.assert_allclose(vector, total / np.linalg.norm(total), atol=1e-5)


def test_cells_on_an_edge_do_not_blur_a_class_that_has_cells_of_its_own() -> None:
    features = np.eye(3, dtype=np.float32)[None]  # three cells with three different looks
    mask = np.repeat(np.array([[1, 1, 1, 0, 0, 0]], np.uint8), 2, axis=0)  # the middle cell is half and half
    prototypes = prototypes_of([(features, mask)], (1,), 0, 1)
    np.testing.assert_array_equal(prototypes.vectors, [[1, 0, 0], [0, 0, 1]])


def test_a_class_that_never_fills_a_cell_still_gets_a_prototype() -> None:
    features = np.eye(2, dtype=np.float32)[None]
    mask = np.array([[0, 0, 0, 5]], np.uint8)
    prototypes = prototypes_of([(features, mask)], (5,), 0, 1)
    assert prototypes.ids == (5, 0)
    np.testing.assert_array_equal(prototypes.vectors[0], [0, 1])


def test_the_background_may_be_many_things_and_the_split_is_repeatable() -> None:
    rng = np.random.default_rng(3)
    looks = unit(rng, 3, 16)
    kind = rng.integers(0, 3, (8, 8))
    features = looks[kind] + 0.02 * rng.normal(size=(8, 8, 16)).astype(np.float32)
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    mask = np.zeros((8, 8), np.uint8)
    mask[0, 0] = 4
    first = prototypes_of([(features, mask)], (4,), 0, 3)
    assert first.ids == (4, 0, 0, 0)
    assert (looks @ first.vectors[1:].T).max(axis=1).min() > 0.99
    second = prototypes_of([(features, mask)], (4,), 0, 3)
    np.testing.assert_array_equal(first.vectors, second.vectors)


def test_without_a_background_there_is_no_background_prototype() -> None:
    features = unit(np.random.default_rng(4), 2, 2, 3)
    assert prototypes_of([(features, np.array([[0, 1], [1, 255]], np.uint8))], (0, 1), None, 4).ids == (0, 1)


def test_kmeans_of_one_is_the_mean_and_equal_vectors_make_one_centre() -> None:
    rng = np.random.default_rng(5)
    vectors, weights = unit(rng, 20, 4), rng.random(20)
    mean = weights @ vectors
    np.testing.assert_allclose(background_centres(vectors, weights, 1)[0], mean / np.linalg.norm(mean), atol=1e-6)
    assert background_centres(np.repeat(vectors[:1], 5, axis=0), np.ones(5), 3).shape == (1, 4)
    centres = background_centres(vectors, weights, 6)
    assert centres.shape == (6, 4)
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-6)
