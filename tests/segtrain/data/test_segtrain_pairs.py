"""What travels with an image: confidence and the original of a pair, under one draw of geometry and colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segkit.shards import ShardRows
from segtrain.config import TrainConfig, train_config
from segtrain.data.augment import augment
from segtrain.data.base_view import BaseView
from segtrain.data.batches import Batch
from segtrain.data.mixture import Mixture, open_sources
from segtrain.data.shards import ShardSource
from segtrain.errors import DataError


@pytest.fixture
def fields_read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The members that were read from shards, sample by sample."""
    seen: list[tuple[str, ...]] = []
    read = ShardRows.read

    def spy(self: ShardRows, row: int, fields: Sequence[str] = ("jpg", "png")) -> Any:
        seen.append(tuple(fields))
        return read(self, row, fields)

    monkeypatch.setattr(ShardRows, "read", spy)
    return seen


def first_batch(config: TrainConfig, **wanted: bool) -> Batch:
    sources, space = open_sources(config)
    return Mixture(sources, space, config, **wanted).batch(0)


def with_originals(pairs: Callable[..., Any], count: int = 3) -> tuple[list[Any], list[Any]]:
    """Augmented images 40 grey values brighter than their originals, with an unknown object in the mask."""
    originals = pairs(count)
    augmented = []
    for image, mask in originals:
        mask = mask.copy()
        mask[24:32, :8] = 254
        augmented.append((np.minimum(image.astype(int) + 40, 255).astype(np.uint8), mask))
    return augmented, originals


def test_nothing_that_nobody_asked_for_is_read(
    settings, tmp_path: Path, write_shards, pairs, fields_read: list[tuple[str, ...]]
) -> None:
    augmented, originals = with_originals(pairs)
    config = settings(data=[str(write_shards(tmp_path / "d", augmented, originals=originals))])
    batch = first_batch(config)
    assert fields_read[0] == ("png",), "whether anything is labelled"
    assert set(fields_read[1:]) == {("jpg", "png")}
    assert batch.confidence is batch.originals is batch.original_targets is None
    fields_read.clear()
    first_batch(config, confidence=True, originals=True)
    assert set(fields_read[1:]) == {("jpg", "png", "conf.png", "orig.jpg", "orig.png")}


def test_asking_for_more_changes_no_crop(settings, tmp_path: Path, write_shards, pairs) -> None:
    augmented, originals = with_originals(pairs)
    config = settings(data=[str(write_shards(tmp_path / "d", augmented, originals=originals))])
    plain, full = first_batch(config), first_batch(config, confidence=True, originals=True)
    assert torch.equal(plain.images, full.images) and torch.equal(plain.targets, full.targets)
    assert np.array_equal(plain.rows, full.rows)


def test_confidence_lies_on_its_mask(settings, tmp_path: Path, write_shards, pairs) -> None:
    """It is 90 on class 5 and 200 elsewhere, after scale, crop, flip and padding as before; 0 outside the image."""
    config = settings(data=[str(write_shards(tmp_path / "d", pairs(3)))], scale_min=0.5, scale_max=2.0)
    sources, space = open_sources(config)
    mixture = Mixture(sources, space, config, confidence=True)
    values = set()
    for step in range(6):
        batch = mixture.batch(step)
        assert batch.confidence is not None
        expected = torch.tensor([200, 90])[batch.targets.long().clamp(max=1)].where(batch.targets != 255, 0)
        assert torch.equal(batch.confidence.long(), expected)
        values |= set(batch.confidence.unique().tolist())
    assert values == {0, 90, 200}


def test_a_folder_is_sure_of_its_labels(settings, tmp_path: Path, write_folder, pairs) -> None:
    masks = [(image, np.where(np.arange(32) < 4, 255, mask).astype(np.uint8)) for image, mask in pairs(2)]
    batch = first_batch(settings(data=[str(write_folder(tmp_path / "f", masks))]), confidence=True)
    assert batch.confidence is not None
    assert torch.equal(batch.confidence == 255, batch.targets < 254)
    assert set(batch.confidence.unique().tolist()) == {0, 255}


def test_the_original_of_a_pair_has_the_same_geometry(settings, tmp_path: Path, write_shards, pairs) -> None:
    augmented, originals = with_originals(pairs)
    data = str(write_shards(tmp_path / "d", augmented, originals=originals))
    config = settings(data=[data], scale_min=0.5, scale_max=2.0, jitter=0.0)
    sources, space = open_sources(config)
    mixture, unknown = Mixture(sources, space, config, originals=True), 0
    for step in range(6):
        batch = mixture.batch(step)
        assert batch.originals is not None and batch.original_targets is not None
        inside = batch.targets != 255
        assert torch.equal(inside, batch.original_targets != 255)
        known = inside & (batch.targets != 254)
        assert torch.equal(batch.targets[known], batch.original_targets[known])
        assert set(batch.original_targets[batch.targets == 254].tolist()) <= {0}
        unknown += int((batch.targets == 254).sum())
        difference = batch.images.float().mean(dim=1) - batch.originals.float().mean(dim=1)
        assert ((difference - difference.clamp(34, 41)).abs()[inside] < 2).all(), "40 brighter, or cut at 255"
        assert not difference[~inside].any()
    assert unknown


def test_colours_of_a_pair_change_together() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    config = train_config(data=["x"], out="y", crop_px=64, jitter=0.5)
    for seed in range(5):
        crop = augment(image, mask, np.random.default_rng(seed), config, original=(image, mask))
        assert crop.original is not None and torch.equal(crop.image, crop.original[0])


def test_a_training_from_pairs_says_which_sample_is_none(settings, tmp_path: Path, write_shards, pairs) -> None:
    config = settings(data=[str(write_shards(tmp_path / "d", pairs(3)))])
    with pytest.raises(DataError, match=r"train-000000.tar: sample .: has no original: this training learns"):
        first_batch(config, originals=True)


def test_an_original_of_another_size_is_named(tmp_path: Path, write_shards, pairs) -> None:
    source = ShardSource(write_shards(tmp_path / "d", pairs(1), originals=pairs(1, size=(40, 32))), "train")
    assert source.read(0).original is None
    with pytest.raises(DataError, match="the image is 32 x 32 px, its original 32 x 40"):
        source.read(0, original=True)


def test_a_sample_knows_its_key_and_its_source_its_names(tmp_path: Path, write_shards, write_folder, pairs) -> None:
    source = ShardSource(write_shards(tmp_path / "d", pairs(6)), "train")
    assert [source.read(row).key for row in (0, 5)] == ["s0000", "s0005"] == [source.name(0), source.name(5)]


def test_a_view_of_the_base_classes_hides_novel_ones_in_originals_too(tmp_path: Path, write_shards, pairs) -> None:
    from segkit.labels import Label, LabelSpace

    source = ShardSource(write_shards(tmp_path / "d", pairs(1), originals=pairs(1)), "train")
    view = BaseView(source, LabelSpace("base", (Label(0, "ground"),), 0), 255)
    sample = view.read(0, original=True, confidence=True)
    assert sample.original is not None and sample.confidence is not None
    assert set(np.unique(sample.original[1])) == set(np.unique(sample.mask)) == {0, 255}
