"""Windows around rare classes, and what is said of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.labels import Label, LabelSpace
from synthgen.adapt.crops import Crop, caption, crop
from synthgen.adapt_settings import Captions, Crops

SPACE = LabelSpace("s", (Label(3, "sky"), Label(7, "traffic sign", synonyms=("sign",)), Label(9, "car")), background=3)


def coordinates(height: int, width: int) -> np.ndarray:
    """Every pixel tells where it lies."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)


def cut(mask: np.ndarray, size_px: tuple[int, int], number: int = 0, **changes: Any) -> Crop:
    options = {"content": "c", "seed": 0, "probabilities": np.array([0.0, 1.0, 0.0]), "settings": Crops()} | changes
    return crop(
        coordinates(*mask.shape), mask, size_px, number, options["content"], options["seed"], options["probabilities"],
        SPACE, options["settings"], Captions(),
    )  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(
    st.integers(20, 90), st.integers(20, 90), st.integers(0, 10_000), st.sampled_from([(16, 16), (16, 32), (24, 16)])
)
def test_a_window_lies_inside_has_the_aspect_and_holds_the_class(
    height: int, width: int, number: int, size_px: tuple[int, int]
) -> None:
    mask = np.full((height, width), 3, dtype=np.uint8)
    row, column = number % height, (7 * number) % width
    mask[row : row + 3, column : column + 3] = 7
    made = cut(mask, size_px, number, settings=Crops(window=(0.5, 1.0), min_share=0.0))
    assert made.image.shape == (*size_px, 3)
    assert made.mask.shape == size_px
    inside = made.image[..., 0].min() >= 0 and made.image[..., 0].max() < height and made.image[..., 1].max() < width
    assert inside
    # steps between neighbouring pixels are the same in both directions: nothing is stretched
    down = np.ptp(made.image[:, 0, 0].astype(int)) / (size_px[0] - 1)
    across = np.ptp(made.image[0, :, 1].astype(int)) / (size_px[1] - 1)
    assert abs(down - across) < 0.2 + 0.1 * max(down, across)
    low, high = made.image[..., 0].astype(int), made.image[..., 1].astype(int)
    assert low.min() - 2 <= row + 2
    assert low.max() + 2 >= row
    assert high.min() - 2 <= column + 2
    assert high.max() + 2 >= column


def test_it_is_drawn_again_until_the_class_covers_enough() -> None:
    mask = np.full((60, 60), 3, dtype=np.uint8)
    mask[2:12, 2:12] = 7
    mask[40, 40] = 7  # a speck, which a draw of pixels meets once in a hundred
    wide = Crops(window=(0.25, 0.25), min_share=0.2)
    shares = [cut(mask, (15, 15), number, settings=wide).shares[1] for number in range(40)]
    assert min(shares) >= 0.2


def test_a_class_that_is_not_in_the_picture_is_never_drawn_and_none_gives_the_middle() -> None:
    mask = np.full((40, 80), 9, dtype=np.uint8)
    made = cut(mask, (16, 16), probabilities=np.array([0.0, 1.0, 0.0]))
    assert made.image[..., 1].min() >= 19
    assert made.image[..., 1].max() <= 60


def test_the_window_follows_from_seed_content_and_number_alone() -> None:
    mask = np.full((50, 70), 7, dtype=np.uint8)
    first = cut(mask, (16, 16), 1)
    assert np.array_equal(first.image, cut(mask, (16, 16), 1).image)
    for changed in (cut(mask, (16, 16), 2), cut(mask, (16, 16), 1, seed=1), cut(mask, (16, 16), 1, content="d")):
        assert not np.array_equal(first.image, changed.image)


def test_every_other_window_is_mirrored_if_so_wished() -> None:
    mask = np.full((16, 16), 7, dtype=np.uint8)
    whole = Crops(window=(1.0, 1.0), flip=True)
    kept, turned = (cut(mask, (16, 16), number, settings=whole) for number in (0, 1))
    assert np.array_equal(kept.image[:, ::-1], turned.image)
    assert np.array_equal(kept.image, coordinates(16, 16))


def test_masks_are_resized_to_ids_that_were_there() -> None:
    rng = np.random.default_rng(0)
    mask = rng.choice(np.array([3, 9, 255], dtype=np.uint8), size=(50, 50))
    made = cut(mask, (32, 32), settings=Crops(window=(1.0, 1.0)))
    assert set(np.unique(made.mask)) <= {3, 9, 255}
    assert made.shares.tolist() == pytest.approx([(made.mask == k).mean() for k in (3, 7, 9)])


def test_the_caption_names_what_covers_enough() -> None:
    shares = np.array([0.5, 0.02, 0.009])
    assert caption(shares, SPACE, Captions()) == "sign"  # sky is the background, the car too small
    both = np.array([0.5, 0.02, 0.3])
    assert (
        caption(both, SPACE, Captions(sentence="a street with {things} by day")) == "a street with sign and car by day"
    )
    for name in ("car", "Car", "CAR "):
        assert caption(both, SPACE, Captions(unnamed=(name, "not of this space"))) == "sign"
    assert (
        caption(np.zeros(3), SPACE, Captions(sentence="a street with {things} by day"))
        == "a street with nothing else by day"
    )
    assert caption(np.zeros(3), SPACE, Captions()) == ""
