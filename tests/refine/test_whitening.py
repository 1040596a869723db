"""Whitening within classes: the arithmetic against loops, and what it is for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from segkit.labels import IGNORE
from synthgen.models import FeatureExtractor
from synthgen.refine.prototypes import normalise, support_prototypes, support_sums
from synthgen.refine.whitening import Scatter, WhitenedFeatures, whitened

CLASSES = (4, 9)
rng = np.random.default_rng(0)


class Given:
    """Features that a test has laid down, by the image's first pixel."""

    id = "given"

    def __init__(self, grids: Sequence[np.ndarray]) -> None:
        self.grids = grids

    def features(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [self.grids[int(image[0, 0, 0])] for image in images]


def image(number: int, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    return np.full((*size, 3), number, np.uint8)


def unit_grids(count: int, width: int, size: int = 4) -> list[np.ndarray]:
    return [normalise(rng.standard_normal((size, size, width))).astype(np.float32) for _ in range(count)]


def masks(count: int, values: Sequence[int], size: int = 8) -> list[np.ndarray]:
    """A class for each cell of 2 x 2 pixels."""
    cells = [rng.choice(values, size=(size // 2, size // 2)).astype(np.uint8) for _ in range(count)]
    return [grid.repeat(2, axis=0).repeat(2, axis=1) for grid in cells]


@pytest.mark.parametrize("background", [None, 0])
@pytest.mark.parametrize("shrinkage", [0.05, 0.3, 1.0])
def test_it_is_what_a_loop_over_pixels_gives(background: int | None, shrinkage: float) -> None:
    grids, truths = unit_grids(5, 6), masks(5, [0, 4, 9, IGNORE, 7])
    scatter = Scatter(CLASSES, background)
    for grid, mask in zip(grids, truths, strict=True):
        scatter.add(grid, mask)
    centre, inverse = scatter.whitening(shrinkage)
    wanted = {*CLASSES} | ({background} if background is not None else set())
    by_class: dict[int, list[np.ndarray]] = {k: [] for k in wanted}
    for grid, mask in zip(grids, truths, strict=True):
        for row in range(8):
            for column in range(8):
                if (k := int(mask[row, column])) in wanted:
                    by_class[k].append(grid[row // 2, column // 2].astype(np.float64))
    means = {k: np.mean(vectors, axis=0) for k, vectors in by_class.items()}
    away = [vector - means[k] for k, vectors in by_class.items() for vector in vectors]
    within = sum(np.outer(d, d) for d in away) / len(away)
    shrunk = (1 - shrinkage) * within + shrinkage * np.trace(within) / 6 * np.eye(6)
    assert centre == pytest.approx(np.mean([*means.values()], axis=0))
    assert inverse @ shrunk @ inverse.T == pytest.approx(np.eye(6))
    found = WhitenedFeatures(Given(grids), centre, inverse).features([image(3)])[0]
    expected = [[inverse @ (cell - centre) for cell in row] for row in grids[3].astype(np.float64)]
    assert found.dtype == np.float32 and found.shape == grids[3].shape
    assert found == pytest.approx(normalise(np.array(expected)), abs=1e-5)


def test_a_pixel_of_no_wanted_class_counts_for_nothing() -> None:
    grids, truths = unit_grids(2, 5), masks(2, [4, 9])
    plain, more = Scatter(CLASSES, None), Scatter(CLASSES, None)
    for grid, mask in zip(grids, truths, strict=True):
        plain.add(grid, mask)
        more.add(grid, mask)
    more.add(unit_grids(1, 5)[0], masks(1, [IGNORE, 254, 0])[0])
    for one, other in zip(plain.whitening(0.2), more.whitening(0.2), strict=True):
        assert one == pytest.approx(other)


def test_the_order_of_the_images_does_not_matter() -> None:
    grids, truths = unit_grids(6, 5), masks(6, [4, 9])
    found = []
    for order in (range(6), reversed(range(6))):
        scatter = Scatter(CLASSES, None)
        for number in order:
            scatter.add(grids[number], truths[number])
        found.append(scatter.whitening(0.3)[1])
    assert found[0] == pytest.approx(found[1])


def test_classes_without_spread_are_centred_alone() -> None:
    grid = np.zeros((4, 4, 3), np.float32)
    grid[:2, :, 0], grid[2:, :, 1] = 1, 1
    mask = np.where(np.arange(8)[:, None] < 4, 4, 9).astype(np.uint8).repeat(8, axis=1)
    made = whitened(Given([grid]), [(image(0), mask)], CLASSES, None, 0.3)
    found = made.features([image(0)])[0]
    assert found[0, 0] == pytest.approx(np.array([1, -1, 0]) / np.sqrt(2))
    assert found[3, 3] == pytest.approx(-found[0, 0])


def test_a_class_that_no_image_shows_has_no_say() -> None:
    grids, truths = unit_grids(3, 4), masks(3, [4, 9])
    labelled = [(image(number), mask) for number, mask in enumerate(truths)]
    with_more = whitened(Given(grids), labelled, (*CLASSES, 12), None, 0.3).features([image(1)])[0]
    assert with_more == pytest.approx(whitened(Given(grids), labelled, CLASSES, None, 0.3).features([image(1)])[0])


def test_a_single_class_keeps_its_direction() -> None:
    grids, truths = unit_grids(3, 4), masks(3, [4, IGNORE])
    labelled = [(image(number), mask) for number, mask in enumerate(truths)]
    made = whitened(Given(grids), labelled, (4,), None, 0.3)
    sums = [support_sums(made.features([image(n)])[0], mask, (4,), None) for n, mask in enumerate(truths)]
    mean = np.mean([grid[mask[::2, ::2] == 4].mean(axis=0) for grid, mask in zip(grids, truths, strict=True)], axis=0)
    assert support_prototypes(sums, (4,), None, 1).vectors[0] @ normalise(mean) > 0.5
    scatter = Scatter((4,), None)
    scatter.add(grids[0], truths[0])
    assert (scatter.whitening(0.3)[0] == 0).all(), "centred, its mean would be noise"


def test_it_finds_classes_that_differ_in_a_small_direction() -> None:
    """Light moves every feature far, the class a little: plain cosines see the light."""
    grids, truths = [], masks(12, CLASSES, size=16)
    for mask in truths:
        own = np.zeros((8, 8, 4))
        own[..., 0] = 1
        own[..., 1] = np.where(mask[::2, ::2] == 4, 0.15, -0.15) + 0.03 * rng.standard_normal((8, 8))
        own[..., 2:] = 1.5 * rng.standard_normal((8, 8, 2))
        grids.append(normalise(own).astype(np.float32))
    given, images = Given(grids), [image(number, (16, 16)) for number in range(12)]

    def right(extractor: FeatureExtractor) -> float:
        features = extractor.features(images)
        sums = [support_sums(*pair, CLASSES, None) for pair in zip(features[:6], truths[:6], strict=True)]
        vectors = support_prototypes(sums, CLASSES, None, 1).vectors
        said = [np.asarray(CLASSES)[(grid @ vectors.T).argmax(axis=-1)] for grid in features[6:]]
        return float(np.mean([s == mask[::2, ::2] for s, mask in zip(said, truths[6:], strict=True)]))

    labelled = list(zip(images[:6], truths[:6], strict=True))
    plain, better = right(given), right(whitened(given, labelled, CLASSES, None, 0.05))
    assert plain < 0.8 < 0.95 < better
