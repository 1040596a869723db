from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segtrain.config import TrainConfig, train_config
from segtrain.data.augment import augment
from segtrain.data.batches import Batch, batches
from segtrain.data.class_pixels import class_pixels
from segtrain.data.mixture import Mixture, epoch_order, mix, open_sources
from segtrain.data.samplers import RareClassSampler
from segtrain.errors import ConfigError, DataError

PLAIN = {"scale_min": 1.0, "scale_max": 1.0, "flip": 0.0, "jitter": 0.0}


def all_batches(config: TrainConfig, first_step: int = 0, num_workers: int = 0) -> list[Batch]:
    sources, space = open_sources(config)
    return list(batches(Mixture(sources, space, config), first_step, num_workers))


def equal(left: Batch, right: Batch) -> bool:
    pictures = torch.equal(left.images, right.images) and torch.equal(left.targets, right.targets)
    return pictures and np.array_equal(left.sources, right.sources)


def test_what_makes_batches_can_be_sent_to_a_process_that_starts_empty(
    settings, tmp_path: Path, write_folder, write_shards, pairs
) -> None:
    """As workers do on macOS, and on Linux from Python 3.14 on."""
    data = [str(write_folder(tmp_path / "photos", pairs(3))), str(write_shards(tmp_path / "made", pairs(5)))]
    config = settings(data=data)
    sources, space = open_sources(config)
    mixture = Mixture(sources, space, config, rare={1: RareClassSampler(class_pixels(sources[1]), space, "made")})
    first = mixture.batch(3)
    sent = pickle.loads(pickle.dumps(mixture))
    assert equal(sent.batch(3), first) and equal(sent.batch(4), mixture.batch(4))


@hypothesis.settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 20), st.integers(0, 99))
def test_an_epoch_gives_every_row_once(sizes: list[int], window: int, seed: int) -> None:
    order = epoch_order(tuple(sizes), window, (seed, 1, 0, 0))
    assert sorted(order.tolist()) == list(range(sum(sizes)))
    assert np.array_equal(order, epoch_order(tuple(sizes), window, (seed, 1, 0, 0)))


def test_an_epoch_stays_within_its_window() -> None:
    """With a window of one shard its rows stay together, and the shards come in another order each epoch."""
    orders = [epoch_order((10,) * 8, 10, (0, 1, 0, epoch)).reshape(8, 10) // 10 for epoch in range(2)]
    assert all((shard == shard[0]).all() for order in orders for shard in order)
    assert orders[0][:, 0].tolist() != orders[1][:, 0].tolist()


def test_a_folder_is_shuffled_as_a_whole() -> None:
    """A training shorter than an epoch would know of 80,000 files the first by name alone."""
    order = epoch_order((80_000,), 4096, (0, 1, 0, 0))
    assert sorted(order.tolist()) == list(range(80_000))
    assert np.histogram(order[:4000], bins=8, range=(0, 80_000))[0].min() > 400
    rng = np.random.default_rng((0, 1, 0, 0))
    rng.permutation(1)
    assert np.array_equal(epoch_order((3000,), 4096, (0, 1, 0, 0)), rng.permutation(np.arange(3000)))


@hypothesis.settings(deadline=None)
@given(st.lists(st.floats(0.02, 1), min_size=1, max_size=5), st.integers(1, 60), st.integers(1, 16))
def test_the_mix_stays_close_to_its_shares_over_any_stretch(weights: list[float], steps: int, batch_size: int) -> None:
    share = np.array(weights) / sum(weights)
    draws = mix(share, steps, batch_size).ravel()
    for number, wanted in enumerate(share):
        drift = np.cumsum(draws == number) - wanted * np.arange(1, draws.size + 1)
        assert np.abs(drift).max() < 8


@pytest.mark.parametrize(("ratio", "share"), [((1, 1), 0.5), ((3, 1), 0.75), ((), 0.8)])
def test_the_batches_have_the_wanted_mix(
    tmp_path: Path, write_shards, write_folder, pairs, ratio: tuple[float, ...], share: float
) -> None:
    """The shards have ids 0 and 5, the folder's masks are void, so a batch itself tells what it was made of."""
    data = write_shards(tmp_path / "synthetic", pairs(8))
    real = write_folder(tmp_path / "real", [(image, mask * 0 + 255) for image, mask in pairs(2)], label_space=False)
    config = train_config(
        data=[str(data), str(real)], out=tmp_path / "out", ratio=ratio, steps=20, batch_size=4, crop_px=32, **PLAIN
    )
    made = all_batches(config)
    counts = np.bincount(np.concatenate([batch.sources for batch in made]), minlength=2)
    assert abs(counts[0] - 80 * share) <= 2
    for batch in made:
        void = (batch.targets == 255).flatten(1).all(dim=1).numpy()
        assert np.array_equal(void, batch.sources == 1)


def test_a_source_that_gives_nothing_is_an_error(tmp_path: Path, write_shards, pairs) -> None:
    data = [str(write_shards(tmp_path / name, pairs(2))) for name in "ab"]
    config = train_config(data=data, out=tmp_path / "out", ratio=[1000, 1], steps=2, batch_size=4)
    with pytest.raises(
        ConfigError, match=r"b: gives none of the 8 samples of 2 steps x 4: raise its --ratio or --steps"
    ):
        Mixture(*open_sources(config), config)


def test_a_wrong_number_of_ratios_is_an_error(settings) -> None:
    config = settings(ratio=[1, 2])
    with pytest.raises(ConfigError, match="2 numbers for 1 sources"):
        Mixture(*open_sources(config), config)


def test_every_sample_comes_once_an_epoch_and_the_order_changes(tmp_path: Path, write_shards, pairs) -> None:
    data = write_shards(tmp_path / "d", pairs(12), shard_size=5)
    config = train_config(data=[str(data)], out=tmp_path / "o", steps=6, batch_size=4, crop_px=32, **PLAIN)
    grey = torch.cat([batch.images[:, 0, 0, 0] for batch in all_batches(config)]).tolist()
    assert sorted(grey[:12]) == sorted(grey[12:]) == list(range(12))
    assert grey[:12] != grey[12:]


def test_a_sample_is_cropped_anew_each_time_it_comes(tmp_path: Path, write_folder) -> None:
    """One image whose pixels tell their place, drawn four times in each of three steps."""
    place = np.arange(64 * 64, dtype=np.int64).reshape(64, 64, 1)
    image = np.concatenate([place % 64, place // 64, place * 0], axis=2).astype(np.uint8)
    data = write_folder(tmp_path / "d", [(image, np.full((64, 64), 5, np.uint8))])
    config = train_config(data=[str(data)], out=tmp_path / "o", steps=3, batch_size=4, crop_px=32, **PLAIN)
    corners = torch.cat([batch.images[:, :2, 0, 0] for batch in all_batches(config)])
    assert len({tuple(corner) for corner in corners.tolist()}) >= 11


def test_any_start_and_any_number_of_workers_give_the_same_batches(settings) -> None:
    config = settings(steps=5)
    whole = all_batches(config)
    assert all(equal(*both) for both in zip(whole[2:], all_batches(config, first_step=2), strict=True))
    assert all(equal(*both) for both in zip(whole, all_batches(config, num_workers=2), strict=True))
    other = all_batches(settings(steps=5, seed=1))
    assert not any(equal(*both) for both in zip(whole, other, strict=True))


def test_the_batches_do_not_touch_the_global_random_numbers(settings) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    all_batches(settings(steps=2))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_in_a_worker_keeps_its_one_line(tmp_path: Path, write_shards, pairs, num_workers: int) -> None:
    strange = [(image, mask + 1) for image, mask in pairs(2)]
    config = train_config(data=[str(write_shards(tmp_path / "d", strange))], out=tmp_path / "o", steps=2, crop_px=32)
    with pytest.raises(DataError, match="ids 1, 6 are not in label space 'toy'") as caught:
        all_batches(config, num_workers=num_workers)
    assert "\n" not in str(caught.value)


def test_a_folder_takes_the_classes_of_the_first_source_that_has_some(
    tmp_path: Path, write_shards, write_folder, pairs
) -> None:
    unnamed = str(write_folder(tmp_path / "unnamed", pairs(1), label_space=False))
    named = str(write_folder(tmp_path / "named", pairs(1)))
    shards = str(write_shards(tmp_path / "shards", pairs(1)))
    spaces = [
        open_sources(train_config(data=data, out=tmp_path / "o"))[1]
        for data in ([unnamed, shards], [shards, unnamed], [unnamed, named])
    ]
    spaces.append(
        open_sources(train_config(data=[unnamed], classes=Path(named) / "labels.yaml", out=tmp_path / "o"))[1]
    )
    assert all(space == spaces[0] and [c.id for c in space.labels] == [0, 5] for space in spaces)
    with pytest.raises(DataError, match=r"no labels.yaml"):
        open_sources(train_config(data=[unnamed], out=tmp_path / "o"))


def test_classes_that_no_source_takes_are_refused(tmp_path: Path, write_folder, pairs) -> None:
    named = str(write_folder(tmp_path / "named", pairs(1)))
    things = [(image, np.where(mask == 5, mask, 255).astype(np.uint8)) for image, mask in pairs(1)]
    unnamed = str(write_folder(tmp_path / "unnamed", things, label_space=False))
    fewer = tmp_path / "fewer.yaml"
    fewer.write_text("name: fewer\nlabels:\n  - {id: 5, name: thing}\n")
    with pytest.raises(ConfigError, match=r"fewer.yaml: 1 classes, and no source takes them: .*named brings 2 of its"):
        open_sources(train_config(data=[named], classes=fewer, out=tmp_path / "o"))
    same = Path(named) / "labels.yaml"
    for data, classes in (([named], same), ([named, unnamed], fewer)):
        space = open_sources(train_config(data=data, classes=classes, out=tmp_path / "o"))[1]
        assert [label.id for label in space.labels] == [0, 5]


def test_sources_whose_classes_do_not_go_together_are_refused(tmp_path: Path, write_shards, pairs) -> None:
    ours = write_shards(tmp_path / "a", pairs(1))
    other = [{"id": 0, "name": "ground", "colour": [0, 0, 0]}, {"id": 5, "name": "car", "colour": [0, 0, 0]}]
    theirs = write_shards(tmp_path / "b", pairs(1), classes=other)
    with pytest.raises(
        DataError, match=r"b: class 'car' \(id 5\) does not go with label space 'toy': there id 5 is 'thing'"
    ):
        open_sources(train_config(data=[str(ours), str(theirs)], out=tmp_path / "o"))


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.example(2, 1, 32, 0.5, 1.0, 0)
@hypothesis.example(3, 3, 32, 0.4, 1.0, 0)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from([32, 64]),
    st.floats(0.4, 2.5),
    st.floats(1, 2),
    st.integers(0, 1000),
)
def test_a_crop_of_any_image_has_its_size_and_its_own_ids(
    height: int, width: int, crop: int, low: float, factor: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.choice(np.array([0, 3, 200, 255], dtype=np.uint8), size=(height, width))
    config = train_config(data=["x"], out="y", crop_px=crop, scale_min=low, scale_max=low * factor)
    made = augment(np.zeros((height, width, 3), np.uint8), mask, np.random.default_rng(seed), config)
    pixels, ids = made.image, made.target
    assert pixels.shape == (3, crop, crop)
    assert pixels.dtype == ids.dtype == torch.uint8
    assert ids.shape == (crop, crop)
    assert set(np.unique(ids)) <= {*np.unique(mask), 255}


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (0.5, 0.7), (1.4, 2.0)])
def test_image_and_mask_stay_on_top_of_each_other(low: float, high: float) -> None:
    """The image paints its mask; after scale, crop, flip and padding it still does, but for blur at edges."""
    mask = np.kron(np.random.default_rng(0).integers(0, 2, (6, 8)), np.ones((12, 12))).astype(np.uint8)
    image = np.repeat((mask * 250)[..., None], 3, axis=2)
    config = train_config(data=["x"], out="y", crop_px=64, scale_min=low, scale_max=high, jitter=0.0)
    for seed in range(20):
        made = augment(image, mask, np.random.default_rng(seed), config)
        pixels, ids = made.image, made.target
        seen, inside = pixels[0].float() / 250, ids != 255
        assert (pixels[:, ~inside] == 0).all()
        assert ((seen - ids).abs()[inside] < 0.51).float().mean() > 0.99


def test_flip_and_scale_happen_and_can_be_turned_off() -> None:
    image = np.arange(64 * 64, dtype=np.int64).reshape(64, 64, 1).repeat(3, axis=2).astype(np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    plain = train_config(data=["x"], out="y", crop_px=64, **PLAIN)
    original = torch.from_numpy(image.transpose(2, 0, 1))
    assert torch.equal(augment(image, mask, np.random.default_rng(0), plain).image, original)
    flipped = plain.model_copy(update={"flip": 1.0})
    assert torch.equal(augment(image, mask, np.random.default_rng(0), flipped).image, original.flip(-1))
    jittered = plain.model_copy(update={"jitter": 0.5})
    colours = [augment(image, mask, np.random.default_rng(seed), jittered).image for seed in range(2)]
    assert not any(torch.equal(left, right) for left, right in itertools.combinations([*colours, original], 2))


def test_reading_does_not_grow_with_the_dataset(tmp_path: Path, write_shards, pairs) -> None:
    """What stays in memory is 32 bytes a sample; the 5 MB of pictures pass through."""
    import tracemalloc

    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    data = write_shards(tmp_path / "d", [(noise, np.full((200, 200), 5, np.uint8))] * 40, shard_size=20)
    config = train_config(data=[str(data)], out=tmp_path / "o", steps=20, batch_size=2, crop_px=32)
    mixture = Mixture(*open_sources(config), config)
    tracemalloc.start()
    for step in range(20):
        assert isinstance(mixture[step], Batch)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 300_000
    assert peak < 1_500_000
