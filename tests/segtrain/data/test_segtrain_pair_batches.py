"""Pairs as they are drawn: originals once an epoch, their variants by turns, both cut alike, mixed before cropping."""

from __future__ import annotations

import pickle
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from segkit.labels import Label, LabelSpace
from segtrain.config import LoopConfig
from segtrain.data.pairs import PairBatches, open_pairs, variants_of_originals
from segtrain.errors import DataError

SPACE = LabelSpace("toy", (Label(0, "ground"), Label(5, "thing")), 0)


def config(tmp_path: Path, **changes) -> LoopConfig:
    values = {"data": ["x"], "out": tmp_path / "m", "steps": 12, "batch_size": 2, "crop_px": 32, "jitter": 0.0}
    return LoopConfig(**{**values, **changes})


def variants(pairs, num_originals: int = 3, num_variants: int = 4) -> tuple[list, list]:
    """Variant v of original k has the grey value 100 + 10 v + k; of the originals it is k."""
    originals = pairs(num_originals)
    augmented, sources = [], []
    for variant in range(num_variants):
        for number, (image, mask) in enumerate(originals):
            augmented.append((np.full_like(image, 100 + 10 * variant + number), mask))
            sources.append((image, mask))
    return augmented, sources


def paired_folder(write_folder, folder: Path, augmented: list, originals: list) -> Path:
    write_folder(folder, augmented)
    made = write_folder(folder / "tmp", originals, label_space=False)
    for part in ("images", "labels"):
        (made / part).rename(folder / f"orig_{part}")
    made.rmdir()
    return folder


def test_variants_of_an_original_go_by_its_content(tmp_path: Path, write_shards, write_folder, pairs) -> None:
    """Two shard sets and other names: still three originals."""
    augmented, originals = variants(pairs)
    first = write_shards(tmp_path / "a", augmented[:6], originals=originals[:6])
    second = write_shards(tmp_path / "b", augmented[6:], originals=originals[6:])
    sources = open_pairs([str(first), str(second)], SPACE)
    groups = variants_of_originals(sources)
    assert [len(group) for group in groups] == [4, 4, 4]
    for group in groups:
        greys = {int(sources[number].read(row).image[0, 0, 0]) for number, row in group}
        assert len({grey % 10 for grey in greys}) == 1 and len(greys) == 4
    folder = paired_folder(write_folder, tmp_path / "f", augmented, originals)
    assert [len(group) for group in variants_of_originals(open_pairs([str(folder)], SPACE))] == [4, 4, 4]


def test_an_epoch_shows_every_original_once_and_all_variants_in_time(tmp_path: Path, write_shards, pairs) -> None:
    augmented, originals = variants(pairs)
    data = write_shards(tmp_path / "a", augmented, originals=originals)
    batches = PairBatches(open_pairs([str(data)], SPACE), SPACE, config(tmp_path, steps=60, flip=0.0), 0.0)
    seen = [int(image.max()) for step in range(60) for image in batches.batch(step).images]
    for start in range(0, 120, 3):
        assert sorted(grey % 10 for grey in seen[start : start + 3]) == [0, 1, 2]
    assert len(set(seen)) == 12, "each of the four variants of each original"
    assert max(Counter(seen).values()) < 25
    assert batches.planned_counts == [120] and batches.num_originals == 3


def test_batches_are_a_function_of_seed_and_step(tmp_path: Path, write_shards, pairs) -> None:
    augmented, originals = variants(pairs)
    data = str(write_shards(tmp_path / "a", augmented, originals=originals))

    def images(step: int, **changes) -> torch.Tensor:
        made = PairBatches(open_pairs([data], SPACE), SPACE, config(tmp_path, **changes), 0.3).batch(step)
        return torch.cat([made.images, made.originals])

    assert torch.equal(images(7), images(7))
    assert not torch.equal(images(7), images(7, seed=1))


def test_an_augmented_picture_takes_a_share_of_its_original(tmp_path: Path, write_shards, pairs) -> None:
    """p = min(U, 0.3): 0.3 in seven of ten, less in the others; the original and both masks stay as they are."""
    image, mask = pairs(1)[0]
    originals = [(np.zeros_like(image), mask)]
    data = write_shards(tmp_path / "a", [(np.full_like(image, 200), mask)], originals=originals)
    sources = open_pairs([str(data)], SPACE)
    plain = PairBatches(sources, SPACE, config(tmp_path, steps=100), 0.0)
    mixed = PairBatches(sources, SPACE, config(tmp_path, steps=100), 0.3)
    shares = []
    for step in range(100):
        before, after = plain.batch(step), mixed.batch(step)
        inside = (before.targets != 255)[:, None].expand_as(before.images)
        assert torch.equal(before.targets, after.targets) and torch.equal(before.originals, after.originals)
        assert torch.equal(before.images == 0, after.images == 0), "the same crop"
        shares += [1 - float(a[i].float().mean()) / 200 for a, i in zip(after.images, inside, strict=True)]
    assert max(shares) == pytest.approx(0.3, abs=0.005) and min(shares) < 0.05
    assert 0.6 < np.mean(np.array(shares) > 0.295) < 0.8


def test_both_pictures_of_a_pair_are_cut_from_one_window(tmp_path: Path, write_shards) -> None:
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.integers(0, 200, (8, 8, 1)), np.ones((8, 8, 1))).repeat(3, axis=2).astype(np.uint8)
    mask = np.where(blocks[..., 0] > 100, 5, 0).astype(np.uint8)
    data = write_shards(tmp_path / "a", [(blocks + 40, mask)], originals=[(blocks, mask)])
    settings = config(tmp_path, scale_min=0.5, scale_max=2.0)
    batches = PairBatches(open_pairs([str(data)], SPACE), SPACE, settings, 0.0)
    for step in range(12):
        batch = batches.batch(step)
        assert batch.originals is not None and torch.equal(batch.targets, batch.original_targets)
        inside = (batch.targets != 255)[:, None].expand_as(batch.images)
        rise = (batch.images.int() - batch.originals.int())[inside]
        assert rise.float().mean() == pytest.approx(40, abs=1) and rise.min() > 30 and rise.max() < 50


def test_batches_of_pairs_can_be_sent_to_a_process_that_starts_empty(tmp_path: Path, write_shards, pairs) -> None:
    augmented, originals = variants(pairs)
    data = open_pairs([str(write_shards(tmp_path / "a", augmented, originals=originals))], SPACE)
    batches = PairBatches(data, SPACE, config(tmp_path), 0.3)
    first = batches.batch(2)
    assert torch.equal(pickle.loads(pickle.dumps(batches)).batch(2).images, first.images)


def test_data_without_pairs_is_one_line(tmp_path: Path, write_shards, write_folder, pairs) -> None:
    for made in (write_shards(tmp_path / "a", pairs(2)), write_folder(tmp_path / "f", pairs(2))):
        with pytest.raises(DataError, match=r": holds no pairs: this training needs the original of each") as caught:
            open_pairs([str(made)], SPACE)
        assert "\n" not in str(caught.value)


def test_an_image_without_its_original_is_named(tmp_path: Path, write_folder, pairs) -> None:
    folder = paired_folder(write_folder, tmp_path / "f", pairs(3), pairs(3))
    for part in ("images", "labels"):
        (folder / f"orig_{part}" / "f0001.png").unlink()
    with pytest.raises(DataError, match=r"f0001 is only in one of images/ and orig_images/"):
        open_pairs([str(folder)], SPACE)


def test_originals_are_found_by_stems_as_masks_are(tmp_path: Path, write_folder, pairs) -> None:
    """One copy of the names has gone through a file system that takes accents apart."""
    folder = paired_folder(write_folder, tmp_path / "f", pairs(2), pairs(2))
    for part, form in (("images", "NFC"), ("labels", "NFC"), ("orig_images", "NFD"), ("orig_labels", "NFD")):
        (folder / part / "f0000.png").rename(folder / part / f"{unicodedata.normalize(form, 'é')}.png")
    (source,) = open_pairs([str(folder)], SPACE)
    for row, value in enumerate((1, 0)):  # é comes after f
        sample = source.read(row, original=True)
        assert sample.original is not None
        assert (sample.image[0, 0, 0], sample.original[0][0, 0, 0]) == (value, value)


def test_a_folder_of_pairs_is_read_as_shards_are(tmp_path: Path, write_folder, pairs) -> None:
    augmented, originals = variants(pairs, 2, 1)
    (source,) = open_pairs([str(paired_folder(write_folder, tmp_path / "f", augmented, originals))], SPACE)
    sample = source.read(1, original=True)
    assert sample.original is not None
    assert np.array_equal(sample.original[0], originals[1][0]) and np.array_equal(sample.original[1], originals[1][1])
    assert np.array_equal(sample.image, augmented[1][0]) and source.read(1).original is None
    assert "originals" in source.identity


def test_another_label_space_than_the_models_is_one_line(tmp_path: Path, write_shards, pairs) -> None:
    data = write_shards(tmp_path / "a", pairs(2), originals=pairs(2))
    other = LabelSpace("other", (Label(0, "ground"), Label(5, "sky")), 0)
    with pytest.raises(DataError, match=r"class 'thing' \(id 5\) does not go with label space 'other'"):
        open_pairs([str(data)], other)
