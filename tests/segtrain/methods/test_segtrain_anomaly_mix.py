"""AnomalyMix: which objects are pasted into the originals, where, and how large."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles.street_pairs import SPACE, MakeConfig, street_pairs

from segkit.labels import Label, LabelSpace
from segtrain.data.pairs import PairBatches, open_pairs
from segtrain.errors import ConfigError, DataError
from segtrain.methods.multi_shift.anomaly_mix import MixedBatches, ObjectBank, object_ids
from segtrain.methods.multi_shift.config import Config
from segtrain.methods.multi_shift.method import train


def bank_of(config: Config, *sources: Any) -> ObjectBank:
    return ObjectBank(sources or open_pairs(config.data, SPACE), SPACE, config)


def test_pasted_objects_are_254_and_nothing_else_changes(config_of: MakeConfig) -> None:
    config = config_of(steps=20, most_original=0.0)
    pairs = PairBatches(open_pairs(config.data, SPACE), SPACE, config, 0.0)
    data = MixedBatches(pairs, bank_of(config), config)
    sizes = set()
    for step in range(20):
        plain, mixed = pairs.batch(step), data.batch(step)
        assert torch.equal(plain.images, mixed.images) and torch.equal(plain.targets, mixed.targets)
        pasted = mixed.original_targets == 254
        assert not (plain.original_targets == 254).any(), "originals show nothing unknown of their own"
        assert torch.equal(mixed.original_targets[~pasted], plain.original_targets[~pasted])
        unchanged = (~pasted)[:, None].expand_as(plain.originals)
        assert torch.equal(mixed.originals[unchanged], plain.originals[unchanged])
        for image, where in zip(mixed.originals, pasted, strict=True):
            rows, columns = torch.nonzero(where, as_tuple=True)
            sizes.add((int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1))
            green = image[1].float() - image[0].float()
            assert green[where].mean() > 180, "the green bar, and not what was around it"
    assert sizes == {(round(8 * s / 10), round(32 * s / 10)) for s in range(5, 11)}
    again = data.batch(7)
    assert torch.equal(again.originals, data.batch(7).originals)


def test_a_share_of_the_originals_has_an_object(config_of: MakeConfig) -> None:
    config = config_of(steps=60, anomaly_mix=0.25)
    data = MixedBatches(PairBatches(open_pairs(config.data, SPACE), SPACE, config, 0.0), bank_of(config), config)
    shown = [bool((target == 254).any()) for step in range(60) for target in data.batch(step).original_targets]
    assert 0.13 < np.mean(shown) < 0.37
    none = MixedBatches(PairBatches(open_pairs(config.data, SPACE), SPACE, config, 0.0), None, config)
    assert not (none.batch(0).original_targets == 254).any()


def test_every_original_of_a_batch_draws_an_object_and_a_place_of_its_own(config_of: MakeConfig) -> None:
    config = config_of(steps=10)
    data = MixedBatches(PairBatches(open_pairs(config.data, SPACE), SPACE, config, 0.0), bank_of(config), config)
    places = [
        tuple(torch.nonzero(target == 254)[0].tolist())
        for step in range(10)
        for target in data.batch(step).original_targets
    ]
    per_step = len(places) // 10
    assert any(len(set(places[start : start + per_step])) > 1 for start in range(0, len(places), per_step))
    assert len(set(places)) > 10, "more places than steps: not one for all of a step"


def test_pasting_leaves_its_arguments_alone(config_of: MakeConfig) -> None:
    image, target = torch.zeros(3, 32, 32, dtype=torch.uint8), torch.full((32, 32), 255, dtype=torch.uint8)
    pasted, labels = bank_of(config_of()).paste(image, target, np.random.default_rng(0))
    assert not image.any() and (target == 255).all()
    assert pasted.any() and (labels == 254).any()


def test_objects_are_single_components_of_a_separate_source(
    config_of: MakeConfig, tmp_path: Path, write_folder
) -> None:
    """Cows are objects, the thing is known, ground is background; touching cows of one mask are one object, a speck is
    none. The label is 254 whatever the source has."""
    from segtrain.data.formats import open_dataset

    mask = np.zeros((40, 40), np.uint8)
    mask[2:12, 2:12], mask[20:30, 20:26], mask[35, 35] = 9, 9, 9
    mask[12:16, 12:16] = 9  # touches the first at a corner
    mask[30:38, 2:10] = 5
    image = np.zeros((40, 40, 3), np.uint8)
    image[mask == 9] = (10, 200, 10)
    classes = [{"id": 0, "name": "ground"}, {"id": 5, "name": "thing"}, {"id": 9, "name": "cow"}]
    source = open_dataset(write_folder(tmp_path / "cows", [(image, mask)], classes=classes), "train", None)
    bank = bank_of(config_of(), source)
    assert [(p.class_id, p.longer_side) for p in bank.places] == [(9, 14), (9, 10)]
    pixels, inside = bank.cut(bank.places[0])
    assert inside.sum() == 116 and (pixels[inside] == (10, 200, 10)).all()
    known = config_of(objects=["x"], object_classes=["thing"])
    assert object_ids(source.label_space, SPACE, known) == [254, 5]
    with pytest.raises(ConfigError, match="object_classes 'horse': no class of label space 'toy'; there are: ground"):
        object_ids(source.label_space, SPACE, config_of(objects=["x"], object_classes=["horse"]))
    synonyms = LabelSpace("other", (Label(0, "ground"), Label(5, "thing", synonyms=("Cow",))), 0)
    assert object_ids(source.label_space, synonyms, config_of()) == [254]
    streets = LabelSpace("streets", (Label(0, "road"),))  # which knows no "ground"
    assert object_ids(SPACE, streets, config_of()) == [254, 5], "a background is no object"


def test_objects_larger_than_the_crop(config_of: MakeConfig, tmp_path: Path, write_shards, caplog) -> None:
    augmented, originals = street_pairs()
    huge = []
    for image, mask in augmented:
        mask = np.where(mask == 254, 0, mask)
        mask[2:6] = 254
        huge.append((image, mask))
    data = str(write_shards(tmp_path / "huge", huge, originals=originals))
    says = (
        r"each of its 4 objects is larger than the crop of 32 px or smaller than 32 px at every scale from 0\.6 to 1: "
        "widen --object-scale-min"
    )
    with pytest.raises(DataError, match=says):
        train(config_of(data=[data], object_scale_min=0.6))
    config = config_of(data=[data])
    bank = bank_of(config)
    assert {scale for place in bank.places for scale in bank.fitting_scales(place)} == {0.5}
    mixed = write_shards(tmp_path / "mixed", huge[:1] + augmented[1:], originals=originals)
    assert len(bank_of(config_of(data=[str(mixed)], object_scale_min=0.6)).places) == 3
    assert "1 of 4 objects are larger than the crop, or too small, at every scale from 0.6 to 1" in caplog.text


def test_no_object_is_pasted_as_a_speck(config_of: MakeConfig) -> None:
    """The bar has 8 x 32 px; at a scale s it has 256 s^2, and 32 are the least."""
    bank = bank_of(config_of(object_scale_min=0.1))
    assert {tuple(bank.fitting_scales(place)) for place in bank.places} == {(0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)}
    smallest = bank_of(config_of(object_scale_min=0.1, min_object_px=256))
    assert {tuple(smallest.fitting_scales(place)) for place in smallest.places} == {(1.0,)}
    with pytest.raises(DataError, match=r"smaller than 256 px at every scale from 0\.1 to 0\.9"):
        bank_of(config_of(object_scale_min=0.1, object_scale_max=0.9, min_object_px=256))


def test_no_object_to_paste_is_one_line(config_of: MakeConfig, tmp_path: Path, write_shards) -> None:
    _, originals = street_pairs()
    data = write_shards(tmp_path / "plain", originals, originals=originals)
    with pytest.raises(DataError, match="no object of 32 px or more in it, so AnomalyMix has nothing to paste"):
        train(config_of(data=[str(data)]))


def test_another_object_within_the_box_of_one_is_not_cut_with_it(
    config_of: MakeConfig, tmp_path: Path, write_shards
) -> None:
    """A ring around a square: two objects, and the box of the ring holds both."""
    image, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    mask[4:28, 4:28], mask[6:26, 6:26], mask[10:20, 10:20] = 254, 0, 254
    data = write_shards(tmp_path / "ring", [(image, mask)], originals=[(image, np.zeros_like(mask))])
    bank = bank_of(config_of(data=[str(data)]))
    assert [int(bank.cut(place)[1].sum()) for place in bank.places] == [24 * 24 - 20 * 20, 100]
