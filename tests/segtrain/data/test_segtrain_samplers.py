"""Rare class sampling: how often a class is drawn, which images stand for it, and what its crops show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from segkit.labels import Label, LabelSpace
from segtrain.config import train_config
from segtrain.data.augment import augment
from segtrain.data.batches import batches
from segtrain.data.class_pixels import class_pixels
from segtrain.data.mixture import Mixture, open_sources
from segtrain.data.samplers import RareClassSampler, Wanted
from segtrain.errors import DataError

SPACE = LabelSpace("s", (Label(7, "road"), Label(2, "pole"), Label(9, "bus"), Label(4, "train")))


def counts() -> np.ndarray:
    """Four images of 1000 px, 200 of them unlabelled in the last: road everywhere, poles in two, a bus in one."""
    pixels = np.zeros((4, 256), np.int64)
    pixels[0, [7]] = 1000
    pixels[1, [7, 2]] = 950, 50
    pixels[2, [7, 2]] = 999, 1
    pixels[3, [7, 2, 9, 255]] = 600, 100, 100, 200
    return pixels


def test_a_class_is_drawn_by_the_softmax_of_its_rarity() -> None:
    sampler = RareClassSampler(counts(), SPACE, "here", temperature=0.2, min_share=0.0015)
    total = 1000 + 1000 + 1000 + 800
    frequency = np.array([3549, 151, 100]) / total
    powers = np.exp((1 - frequency) / 0.2)
    assert sampler.probability == pytest.approx(powers / powers.sum())
    assert sampler.channels == (0, 1, 2) and sampler.missing == ["train"]
    drawn = [sampler.draw((0, 0, step, 0)) for step in range(20_000)]
    of_class = np.bincount([wanted.channel for _, wanted in drawn], minlength=3) / len(drawn)
    assert of_class == pytest.approx(powers / powers.sum(), abs=0.02)
    rows = {channel: {row for row, wanted in drawn if wanted.channel == channel} for channel in range(3)}
    assert rows == {0: {0, 1, 2, 3}, 1: {1, 3}, 2: {3}}, "one pixel of a pole is under the share"
    assert drawn == [sampler.draw((0, 0, step, 0)) for step in range(20_000)]


def test_a_set_without_any_class_is_one_line() -> None:
    void = np.zeros((3, 256), np.int64)
    void[:, 255] = 100
    with pytest.raises(DataError, match=r"here: none of 3 images shows a class .* set --rcs none"):
        RareClassSampler(void, SPACE, "here")


def test_a_crop_is_tried_again_until_it_shows_the_class(settings) -> None:
    """A 16 px square in a corner of 256 px, crops of 32 px: about one in 30 shows it by chance."""
    image, mask = np.zeros((256, 256, 3), np.uint8), np.zeros((256, 256), np.uint8)
    mask[:16, :16] = 1
    config = settings(scale_min=1, scale_max=1)

    def shows(wanted: Wanted | None) -> float:
        crops = [augment(image, mask, np.random.default_rng(s), config, wanted=wanted).target for s in range(300)]
        return float(np.mean([bool((crop == 1).float().mean() > 0.02) for crop in crops]))

    once, ten, hundreds = shows(None), shows(Wanted(1, 0.02, 10)), shows(Wanted(1, 0.02, 2000))
    assert once < 0.1
    assert ten == pytest.approx(1 - (1 - once) ** 10, abs=0.12)
    assert hundreds == 1.0


def test_the_first_source_is_drawn_by_rare_class_and_the_mix_stays(tmp_path: Path, write_folder, pairs) -> None:
    """One of ten images shows the thing; drawn by rare class it is in every second sample of its source."""
    many = [(image, mask if number == 4 else mask * 0) for number, (image, mask) in enumerate(pairs(10))]
    data = [str(write_folder(tmp_path / "a", many)), str(write_folder(tmp_path / "b", pairs(3)))]
    plain = {"scale_min": 1, "scale_max": 1, "flip": 0, "jitter": 0, "crop_px": 32, "ratio": [3, 1]}
    config = train_config(data=data, out=tmp_path / "o", steps=50, batch_size=4, **plain)
    sources, space = open_sources(config)
    rare = RareClassSampler(class_pixels(sources[0]), space, "a", temperature=1e9)
    mixture = Mixture(sources, space, config, rare={0: rare})
    made = list(batches(mixture, 0, 0))
    first = torch.cat([(batch.targets == 1).flatten(1).any(dim=1)[batch.sources == 0] for batch in made])
    assert len(first) == mixture.planned_counts[0] == pytest.approx(150, abs=2)
    # Half of the draws want the thing, and the image that has it is one of the ten that stand for the ground.
    assert first.float().mean().item() == pytest.approx(0.55, abs=0.09)
    again = list(batches(mixture, 20, 2))
    assert all(torch.equal(a.images, b.images) for a, b in zip(made[20:], again, strict=True))
