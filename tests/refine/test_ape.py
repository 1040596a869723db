from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.labels import IGNORE
from segkit.regions import connected_components
from synthgen.models import Proposal, Prototypes
from synthgen.models.cosine_maps import two_best
from synthgen.refine.ape import (
    ClassCosines,
    adapted_prototypes,
    class_cosines,
    confidence_map,
    filled_fraction,
    filter_regions,
    relabel,
)


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def normed(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([-1.0, 0.0, 0.3]), st.sampled_from([1, 4]), st.sampled_from([0, None]))
def test_apf_keeps_the_regions_that_a_loop_would_keep(
    seed: int, threshold: float, least: int, background: int | None
) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.choice(np.array([0, 1, 2, 6, IGNORE], np.uint8), (6, 6)).repeat(2, axis=0).repeat(2, axis=1)
    features = unit(rng, 6, 6, 4)
    prototypes = Prototypes((1, 2, 2, 0), unit(rng, 4, 4))  # class 2 has two rows, class 6 none
    got = filter_regions(mask, features, prototypes, lambda_apf=threshold, min_region_px=least, background=background)

    expected, kept = mask.copy(), []
    upsampled = features.repeat(2, axis=0).repeat(2, axis=1)
    regions = connected_components(mask, exclude=() if background is None else (background,))
    for number in range(1, len(regions) + 1):
        region = regions.index == number
        rows = [
            v for k, v in zip(prototypes.ids, prototypes.vectors, strict=True) if k == regions.class_ids[number - 1]
        ]
        score = max((float(normed(upsampled[region].mean(axis=0)) @ v) for v in rows), default=-np.inf)
        if score >= threshold and region.sum() >= least:
            kept.append((score, region.sum()))
        else:
            expected[region] = IGNORE
    np.testing.assert_array_equal(got.mask, expected)
    assert (got.num_regions, got.num_kept) == (len(regions), len(kept))
    mean = sum(s * n for s, n in kept) / sum(n for _, n in kept) if kept else -1
    assert got.similarity == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize(
    ("direction", "threshold", "kept"),
    [((0, 1), 0.0, 1), ((1, 0), 1.0, 1), ((-1, 0), -1.0, 1), ((0, 1), 1e-6, 0), ((-1, 0), -0.5, 0)],
)
def test_a_region_whose_cosine_is_the_threshold_itself_is_kept(
    direction: tuple[int, int], threshold: float, kept: int
) -> None:
    """Exact numbers: orthogonal, equal and opposite features give cosines of 0, 1 and -1."""
    mask = np.ones((4, 4), np.uint8)
    features = np.broadcast_to(np.array(direction, np.float32), (2, 2, 2))
    prototypes = Prototypes((1,), np.array([[1, 0]], np.float32))
    got = filter_regions(mask, features, prototypes, lambda_apf=threshold, min_region_px=1, background=0)
    assert got.num_kept == kept
    np.testing.assert_array_equal(got.mask, mask if kept else np.full_like(mask, IGNORE))


def test_apf_on_a_mask_without_regions() -> None:
    mask = np.zeros((4, 4), np.uint8)
    prototypes = Prototypes((1,), np.ones((1, 1), np.float32))
    got = filter_regions(
        mask, np.ones((2, 2, 1), np.float32), prototypes, lambda_apf=0.5, min_region_px=1, background=0
    )
    assert (got.num_regions, got.num_kept, got.similarity) == (0, 0, -1.0)
    np.testing.assert_array_equal(got.mask, mask)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_adapted_prototypes_blend_support_and_image(beta: float) -> None:
    rng = np.random.default_rng(0)
    features, support = unit(rng, 4, 4, 5), unit(rng, 3, 5)
    mask = np.full((8, 8), IGNORE, np.uint8)
    mask[:4, :4], mask[5:, 5:] = 1, 0
    got = adapted_prototypes(mask, features, Prototypes((1, 2, 0), support), beta)
    upsampled = features.repeat(2, axis=0).repeat(2, axis=1)
    for row, k in ((0, 1), (2, 0)):
        own = normed(upsampled[mask == k].mean(axis=0))
        np.testing.assert_allclose(got.vectors[row], normed(beta * support[row] + (1 - beta) * own), atol=1e-5)
    # Class 2 has no trusted pixel: beta = 1.
    np.testing.assert_array_equal(got.vectors[1], support[1])


def test_each_cell_moves_only_the_background_prototype_that_it_is_like() -> None:
    support = np.eye(3, dtype=np.float32)
    features = np.array([[[0.8, 0.6, 0.0], [0.6, 0.8, 0.0]]], np.float32)
    got = adapted_prototypes(np.zeros((1, 2), np.uint8), features, Prototypes((0, 0, 0), support), 0.0)
    np.testing.assert_allclose(got.vectors, [[0.8, 0.6, 0], [0.6, 0.8, 0], [0, 0, 1]], atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([-1.0, 0.2]), st.sampled_from([0.0, 0.1]))
def test_apr_labels_a_free_pixel_only_where_it_is_sure(seed: int, min_cosine: float, min_margin: float) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.choice(np.array([0, 1, IGNORE], np.uint8), (5, 6))
    prototypes = Prototypes((4, 0, 0), unit(rng, 3, 4))
    looks = class_cosines(unit(rng, 5, 6, 4), prototypes, (5, 6))
    got = relabel(mask, looks, min_cosine=min_cosine, min_margin=min_margin)
    for y in range(5):
        for x in range(6):
            if mask[y, x] != IGNORE:
                assert got[y, x] == mask[y, x]
                continue
            by_class = {int(k): float(c) for k, c in zip(looks.class_ids, looks.cosines[:, y, x], strict=True)}
            (best, top), (_, second) = sorted(by_class.items(), key=lambda item: -item[1])
            sure = top >= min_cosine and np.float32(top) - np.float32(second) >= min_margin
            assert got[y, x] == (best if sure else IGNORE)


def test_the_margin_is_against_another_class_not_another_row_of_the_same() -> None:
    # Both rows of the background fit equally well; the pixel is surely background all the same.
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    looks = class_cosines(np.array([[[1, 0]]], np.float32), Prototypes((0, 0, 5), vectors), (1, 1))
    free = np.full((1, 1), IGNORE, np.uint8)
    assert relabel(free, looks, min_cosine=0.5, min_margin=0.5)[0, 0] == 0


def test_a_single_candidate_needs_no_margin() -> None:
    looks = class_cosines(np.ones((1, 1, 1), np.float32), Prototypes((5,), np.ones((1, 1), np.float32)), (2, 2))
    got = relabel(np.full((2, 2), IGNORE, np.uint8), looks, min_cosine=0.5, min_margin=0.5)
    assert (got == 5).all()
    assert (confidence_map(got, looks) == 255).all()


def test_filled_fraction_counts_what_apf_freed() -> None:
    coarse = np.array([[1, 1, 1, IGNORE]], np.uint8)
    filtered = np.array([[1, IGNORE, IGNORE, IGNORE]], np.uint8)
    relabelled = np.array([[1, 0, IGNORE, 0]], np.uint8)
    assert filled_fraction(coarse, filtered, relabelled) == 0.5
    assert filled_fraction(coarse, coarse, coarse) == 1.0


def test_confidence_is_a_sigmoid_of_the_margin_and_zero_only_where_unlabelled() -> None:
    cosines = np.array([[[0.9, 0.5, 0.4, 0.9, 0.0, 0.3]], [[0.8, 0.5, 0.5, 0.1, 1.0, 0.2]]], np.float32)
    mask = np.array([[3, 3, 3, IGNORE, 3, 8]], np.uint8)
    got = confidence_map(mask, ClassCosines(np.array([3, 7], np.uint8), cosines, *two_best(cosines)))[0]
    expected = [round(255 / (1 + np.exp(-1))), 128, round(255 / (1 + np.exp(1))), 0, 1, 128]
    assert got.tolist() == expected


def test_no_candidate_leaves_everything_as_it_is() -> None:
    looks = class_cosines(np.ones((1, 1, 2), np.float32), Prototypes((), np.zeros((0, 2), np.float32)), (1, 2))
    mask = np.array([[4, IGNORE]], np.uint8)
    assert relabel(mask, looks, min_cosine=-1, min_margin=0).tolist() == [[4, IGNORE]]
    assert confidence_map(mask, looks).tolist() == [[128, 0]]


def test_the_proposers_own_probability_is_the_confidence_where_its_label_stands() -> None:
    coarse = np.array([[1, 1, 0, 0, IGNORE]], np.uint8)
    mask = np.array([[1, 2, 0, 0, IGNORE]], np.uint8)
    probability = np.array([[0.6, 0.9, 0.001, 0.0, 0.7]], np.float32)
    cosines = np.array([[[0.5] * 5], [[0.4] * 5]], np.float32)
    looks = ClassCosines(np.array([0, 2], np.uint8), cosines, *two_best(cosines))
    plain = confidence_map(mask, looks)[0].tolist()
    got = confidence_map(mask, looks, Proposal(coarse, probability))[0].tolist()
    assert got == [153, plain[1], 1, plain[3], 0] and plain[1] != 230
