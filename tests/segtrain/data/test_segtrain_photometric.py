"""The strong jitter against what mmsegmentation's PhotoMetricDistortion says, in plain floating point."""

from __future__ import annotations

import colorsys
import dataclasses

import numpy as np
import pytest
import torch

from segtrain.config import DataSettings
from segtrain.data.augment import draw
from segtrain.data.photometric import PhotometricDistortion


def colours(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(3, 9, 11), dtype=np.uint8)


def slow(pixels: np.ndarray, how: PhotometricDistortion) -> np.ndarray:
    """Pixel by pixel, with Python's own colour space."""
    made = np.zeros(pixels.shape)
    for row, column in np.ndindex(*pixels.shape[1:]):
        rgb = np.clip(pixels[:, row, column] + how.brightness, 0, 255)
        if how.contrast_first:
            rgb = np.clip(rgb * how.contrast, 0, 255)
        hue, saturation, value = colorsys.rgb_to_hsv(*(rgb / 255))
        rgb = np.array(
            colorsys.hsv_to_rgb((hue + how.hue_degrees / 360) % 1, min(1, saturation * how.saturation), value)
        )
        made[:, row, column] = np.clip(rgb * 255 * (1 if how.contrast_first else how.contrast), 0, 255)
    return made


@pytest.mark.parametrize(
    ("how", "off"),
    [
        (PhotometricDistortion(brightness=-32.0), 1),
        (PhotometricDistortion(contrast=1.5), 1),
        (PhotometricDistortion(saturation=0.5), 5),
        (PhotometricDistortion(hue_degrees=-36.0), 9),
        (PhotometricDistortion(20.0, 0.6, 1.4, 30.0, False), 9),
        (PhotometricDistortion(20.0, 0.6, 1.4, 30.0, True), 9),
    ],
)
def test_it_changes_pixels_as_the_definition_does(how: PhotometricDistortion, off: int) -> None:
    """Up to the bytes that hue and saturation are kept in: one of hue is 6 levels, cut once and rounded once."""
    pixels = colours()
    made, expected = how.apply(torch.from_numpy(pixels)).numpy().astype(float), slow(pixels, how)
    assert np.abs(made - expected).max() <= off
    assert np.abs(expected - pixels).mean() > 5, "the case must change something"


def test_each_part_happens_in_half_of_the_draws_within_its_limits() -> None:
    draws = [PhotometricDistortion.draw(np.random.default_rng(seed)) for seed in range(2000)]
    limits = {
        "brightness": (-32, 0, 32),
        "contrast": (0.5, 1, 1.5),
        "saturation": (0.5, 1, 1.5),
        "hue_degrees": (-36, 0, 36),
    }
    for name, (low, nothing, high) in limits.items():
        values = np.array([getattr(one, name) for one in draws])
        assert np.mean(values != nothing) == pytest.approx(0.5, abs=0.05)
        assert low <= values.min() < low + 0.1 * (high - low) and high - 0.1 * (high - low) < values.max() <= high
    assert np.mean([one.contrast_first for one in draws]) == pytest.approx(0.5, abs=0.05)
    one = PhotometricDistortion()
    assert torch.equal(one.apply(torch.from_numpy(colours())), torch.from_numpy(colours()))


def test_it_stands_in_for_the_weak_jitter_and_moves_nothing_else(settings) -> None:
    config: DataSettings = settings(photometric=True)
    drawn = draw((40, 50), np.random.default_rng(1), config)
    assert isinstance(drawn.colours, PhotometricDistortion)
    assert dataclasses.replace(drawn, colours=None).picture(np.zeros((40, 50, 3), np.uint8)).shape == (3, 32, 32)
