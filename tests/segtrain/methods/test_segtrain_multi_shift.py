"""`segtrain multi-shift` as a whole: what learns when, resume across stages, AnomalyMix, mistakes of users."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles.killed_training import Killed, kill_at
from safetensors.torch import load_file

from segkit.labels import Label, LabelSpace
from segkit.networks.uncertainty import UncertaintyNetwork
from segkit.shards import ShardRows
from segtrain.config import checked
from segtrain.data.batches import Batch
from segtrain.data.pairs import PairBatches, open_pairs
from segtrain.errors import ConfigError, DataError, ModelError, RunError
from segtrain.methods.multi_shift.anomaly_mix import MixedBatches, ObjectBank, object_ids
from segtrain.methods.multi_shift.config import Config
from segtrain.methods.multi_shift.method import MultiShift, train
from segtrain.methods.multi_shift.relative_contrast import Half
from segtrain.methods.supervised.method import train as train_base
from segtrain.segmenter import load_model

SPACE = LabelSpace("toy", (Label(0, "ground"), Label(5, "thing")), 0)
MakeConfig = Callable[..., Config]


def street_pairs(count: int = 4, size: int = 64) -> tuple[list, list]:
    """Noisy originals with a bright thing; augmented: darker, with an unknown bar whose label is 254."""
    rng = np.random.default_rng(0)
    augmented, originals = [], []
    for _ in range(count):
        image, mask = rng.integers(90, 140, (size, size, 3), dtype=np.uint8), np.zeros((size, size), np.uint8)
        image[8:24, 8:24], mask[8:24, 8:24] = 220, 5
        mask[60:] = 255
        originals.append((image, mask))
        image, mask = image // 2, mask.copy()
        image[40:48, 16:48], mask[40:48, 16:48] = (0, 250, 30), 254
        augmented.append((image, mask))
    return augmented, originals


@pytest.fixture
def pair_data(tmp_path: Path, write_shards) -> Path:
    augmented, originals = street_pairs()
    return write_shards(tmp_path / "pairs", augmented, originals=originals)


@pytest.fixture(params=[("DeepLabV3Plus", "resnet18")])
def base(request, tmp_path: Path, pair_data: Path, settings) -> Path:
    arch, encoder = request.param
    changes = {"arch": arch, "encoder": encoder, "decoder_channels": "", "steps": 2, "batch_size": 2}
    return train_base(settings(data=[str(pair_data)], out=tmp_path / "base", **changes))


@pytest.fixture
def config_of(tmp_path: Path, pair_data: Path, base: Path) -> MakeConfig:
    def make(**changes: Any) -> Config:
        values = {
            "data": [str(pair_data)],
            "base": base,
            "out": tmp_path / "model",
            "steps": 6,
            "stage1_share": 0.5,
            "batch_size": 2,
            "crop_px": 32,
            "margin_batches": 2,
            "learning_rate": 1e-2,
            "stage2_learning_rate": 1e-3,
            "checkpoint_every": 2,
            "log_every": 1,
            "object_scale_min": 0.5,
            "device": "cpu",
        }
        return checked(Config, {**values, **changes})

    return make


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def as_uncertainty(base: Path) -> dict[str, torch.Tensor]:
    """The base model's tensors under the names of the network with the head."""
    renamed = {}
    for name, tensor in tensors(base).items():
        renamed[name.replace("segmentation_head.0.", "classifier.")] = tensor
        if name.startswith("segmentation_head.0."):
            renamed[name.replace("segmentation_head.0.", "uncertainty_head.")] = tensor
    return renamed


def changed_parts(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """Parts with a parameter or a buffer that is not the same bit by bit."""
    assert before.keys() == after.keys()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    return {".".join(name.split(".")[: 2 if name.startswith("decoder") else 1]) for name in changed}


# what learns


def test_stage_1_changes_the_head_alone_and_no_statistic(config_of: MakeConfig, base: Path) -> None:
    model = train(config_of(stage1_share=1.0))
    assert changed_parts(as_uncertainty(base), tensors(model)) == {"uncertainty_head"}


def test_each_stage_has_its_own_weight_decay_and_stage_1_none_unless_asked(
    config_of: MakeConfig, tmp_path: Path
) -> None:
    decays = {"default": {}, "none": {"weight_decay": 0.0}, "some": {"weight_decay": 0.5}}
    heads = {}
    for stage, share in ((1, 1.0), (2, 0.0)):
        for name, decay in decays.items():
            model = train(config_of(steps=2, stage1_share=share, out=tmp_path / f"{stage}-{name}", **decay))
            heads[stage, name] = tensors(model)["uncertainty_head.weight"]
    assert torch.equal(heads[1, "default"], heads[1, "none"])
    assert not torch.equal(heads[1, "some"], heads[1, "none"])
    assert torch.equal(heads[2, "some"], heads[2, "none"]), "that of stage 2 is stage2_weight_decay"


def test_stage_2_changes_head_and_trunk_and_nothing_that_is_frozen(config_of: MakeConfig, base: Path) -> None:
    """Buffers too: running means of encoder and last projection are bit-equal after the steps."""
    before, after = as_uncertainty(base), tensors(train(config_of(stage1_share=0.0)))
    assert changed_parts(before, after) == {"uncertainty_head", "decoder.aspp", "decoder.block1"}
    learnt = [n for n in before if n.startswith(("decoder.aspp", "decoder.block1")) and not n.endswith("tracked")]
    assert all(not torch.equal(before[name], after[name]) for name in learnt if "running" in name)
    frozen = [name for name in before if "running" in name and name.startswith(("encoder", "decoder.block2"))]
    assert len(frozen) > 30


def test_without_a_learnable_head_it_stays_the_classifier(config_of: MakeConfig, base: Path) -> None:
    after = tensors(train(config_of(stage1_share=0.0, learn_head=False)))
    assert changed_parts(as_uncertainty(base), after) == {"decoder.aspp", "decoder.block1"}
    assert torch.equal(after["uncertainty_head.weight"], after["classifier.weight"])


def test_a_user_may_choose_what_else_stays(config_of: MakeConfig, base: Path) -> None:
    after = tensors(train(config_of(stage1_share=0.0, freeze=["decoder.aspp.*"])))
    assert changed_parts(as_uncertainty(base), after) == {"uncertainty_head", "decoder.block1", "decoder.block2"}
    with pytest.raises(ConfigError, match=r"no parameter is called 'decoder\.tail'"):
        train(config_of(out=base.parent / "other", stage1_share=0.0, freeze=["decoder.tail"]))


@pytest.mark.parametrize("base", [("Unet", "resnet18"), ("FPN", "resnet18")], indirect=True)
def test_other_networks_learn_too(config_of: MakeConfig, base: Path) -> None:
    changed = changed_parts(as_uncertainty(base), tensors(train(config_of())))
    assert changed >= {"uncertainty_head"} and not changed & {"encoder", "classifier"}
    assert len(changed) > 1


def test_a_multi_shift_model_is_loaded_and_goes_on(config_of: MakeConfig, tmp_path: Path) -> None:
    model = train(config_of())
    network = load_model(model, "cpu").network
    assert isinstance(network, UncertaintyNetwork)
    again = train(config_of(base=model, out=tmp_path / "again"))
    assert json.loads((again / "config.json").read_text())["_segtrain"]["network"] == "uncertainty"


# margins and losses


def test_margins_are_measured_before_the_first_step_and_kept(config_of: MakeConfig, base: Path) -> None:
    """Means of the base model's energy over the pixels of the first batches, as one pass over them gives it."""
    config = config_of(steps=2, stage1_share=0.5)
    model = train(config)
    margins = json.loads((model / "config.json").read_text())["_segtrain"]["margins"]
    segmenter = load_model(base, "cpu")
    sources = open_pairs(config.data, segmenter.label_space)
    data = MixedBatches(
        PairBatches(sources, segmenter.label_space, config, config.most_original),
        ObjectBank(sources, segmenter.label_space, config),
        config,
    )
    values: dict[str, list[float]] = {"day": [], "weather": [], "unknown": []}
    for step in range(2):
        batch = data.batch(step)
        for name, images, targets in (
            ("day", batch.originals, batch.original_targets),
            ("weather", batch.images, batch.targets),
        ):
            arrays = [image.permute(1, 2, 0).numpy() for image in images]
            for (_, u), y in zip(segmenter.predict_with_uncertainty(arrays), targets.numpy(), strict=True):
                values[name] += u[y < 254].tolist()
                values["unknown"] += u[y == 254].tolist()
    day, weather, unknown = (np.mean(values[name]) for name in ("day", "weather", "unknown"))
    l1 = max(unknown - day, np.std(values["day"]))
    l3 = min(max(weather - day, 0), l1 / 2)
    assert margins == pytest.approx([l1, l1 - l3, l3], rel=1e-4)
    fixed = train(config_of(steps=1, margins="10,5,5", out=model.parent / "fixed"))
    assert json.loads((fixed / "config.json").read_text())["_segtrain"]["margins"] == [10, 5, 5]


def test_all_terms_are_logged_and_stage_2_adds_segmentation(config_of: MakeConfig, caplog) -> None:
    with caplog.at_level(logging.INFO):
        train(config_of(steps=4))
    lines = [record.message for record in caplog.records if record.message.startswith("step ")]
    assert all("unknown_over_original" in line and "augmented_over_original" in line for line in lines)
    assert ["ce_augmented" in line for line in lines] == [False, False, True, True]
    stages = [record.message for record in caplog.records if record.message.startswith("stage ")]
    assert stages[0] == "stage 1: 1 modules learn, of uncertainty_head"
    assert stages[1].endswith("learn, of decoder.aspp, decoder.block1, uncertainty_head")


def test_each_loss_gives_a_model_of_its_own(config_of: MakeConfig, tmp_path: Path) -> None:
    losses: list[dict[str, Any]] = [{}, {"contrast": "pooled"}, {"contrast": "originals"}, {"relative_weight": 0.0}]
    heads = [
        tensors(train(config_of(steps=2, out=tmp_path / f"m{number}", **changes)))["uncertainty_head.weight"]
        for number, changes in enumerate(losses)
    ]
    for number, head in enumerate(heads):
        assert not any(torch.equal(head, other) for other in heads[number + 1 :]), losses[number]


def test_a_batch_without_unknown_pixels_is_no_nan(config_of: MakeConfig, tmp_path: Path, write_shards, caplog) -> None:
    """Nor is one whose augmented pictures have no label at all."""
    _, originals = street_pairs()
    void = [(image, np.full_like(mask, 255)) for image, mask in originals]
    for name, augmented in (("plain", originals), ("void", void)):
        data = write_shards(tmp_path / name, augmented, originals=originals)
        changes = {"data": [str(data)], "anomaly_mix": 0.0, "margins": "2,1,1", "out": tmp_path / f"m-{name}"}
        assert all(torch.isfinite(value).all() for value in tensors(train(config_of(**changes))).values())
    messages = [record.message for record in caplog.records]
    assert sum("no pixel of the first batch is unknown (254)" in message for message in messages) == 2
    assert sum("augmented pictures is labelled (all 255)" in message for message in messages) == 1


def test_margins_cannot_be_measured_without_unknown_pixels(config_of: MakeConfig, tmp_path: Path, write_shards) -> None:
    _, originals = street_pairs()
    data = write_shards(tmp_path / "plain", originals, originals=originals)
    with pytest.raises(ConfigError, match="margins auto: no pixel is unknown in the first batches"):
        train(config_of(data=[str(data)], anomaly_mix=0.0))


# resume


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_a_killed_training_goes_on_to_the_same_weights_in_both_stages(
    config_of: MakeConfig, tmp_path: Path, monkeypatch, step: int
) -> None:
    """Before a checkpoint, at one in stage 1, right where stage 2 begins, within it."""
    whole = tensors(train(config_of(out=tmp_path / "whole")))

    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, step)
        train(config_of())
    again = train(config_of())
    assert changed_parts(whole, tensors(again)) == set()
    facts = [json.loads((folder / "config.json").read_text())["_segtrain"] for folder in (again, tmp_path / "whole")]
    assert facts[0]["margins"] == facts[1]["margins"]


def test_another_base_in_the_same_folder_is_refused_and_a_moved_one_is_not(
    config_of: MakeConfig, tmp_path: Path, base: Path
) -> None:
    train(config_of(steps=1))
    moved = base.rename(tmp_path / "moved")
    train(config_of(steps=1, base=moved))
    with pytest.raises(RunError, match="belongs to a training with"):
        train(config_of(steps=1, base=moved, keep=0.7))


@pytest.mark.parametrize(
    ("contrast", "expected"),
    [("pooled", {"unknown_over_known": 12.0}), ("originals", {"unknown_over_known": 7.0}), ("relative", {
        "unknown_over_original": 7.0, "unknown_over_augmented": 9.0, "augmented_over_original": 1.5 * 2.0
    })],
)  # fmt: skip
def test_each_contrast_looks_at_its_own_pixels(config_of: MakeConfig, contrast: str, expected: dict[str, Any]) -> None:
    """u = 0 by day, 5 in bad weather, 3 for the unknown; margins 10, 7, 3. Pooled, with known pixels of weather alone:
    10 + 5 - 3; originals: 10 - 3; relative: 10 - 3, 7 + 5 - 3 and 5 - 3, times its weight."""
    config = config_of(contrast=contrast, margins="10,7,3", relative_weight=1.5)
    method = MultiShift(PairBatches(open_pairs(config.data, SPACE), SPACE, config, 0.0), config, "DeepLabV3Plus", {})
    targets = torch.full((1, 4, 4), 254)
    by_day = targets.clone()
    if contrast != "pooled":
        by_day[:, :2] = 0
    augmented = targets.clone()
    augmented[:, :2] = 0
    original = Half(torch.where(by_day == 254, 3.0, 0.0), by_day)
    weather = Half(torch.where(augmented == 254, 3.0, 5.0), augmented)
    terms = method._contrast(original, weather)
    assert {name: round(float(term), 5) for name, term in terms.items()} == pytest.approx(expected)


# AnomalyMix


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


# the base model


@pytest.mark.parametrize(
    ("value", "says"), [(255, "every pixel of the masks is 255"), (254, "every pixel of the masks is 254")]
)
def test_pairs_that_label_nothing_are_one_line(value: int, says: str, tmp_path: Path, write_shards, pairs) -> None:
    void = [(image, np.full_like(mask, value)) for image, mask in pairs(3)]
    made = write_shards(tmp_path / "void", void, originals=void)
    space = ShardRows(made, "train").labels
    with pytest.raises(DataError, match=f"no pixel of the 3 images shows a class of .*: {says}"):
        open_pairs([str(made)], space)


def test_a_base_of_another_label_space_is_one_line(
    config_of: MakeConfig, tmp_path: Path, golden: Path, settings
) -> None:
    other = train_base(settings(data=[str(golden)], out=tmp_path / "golden-model", steps=1))
    with pytest.raises(DataError, match="does not go with label space 'golden'"):
        train(config_of(base=other))


def test_what_is_no_base_is_one_line(config_of: MakeConfig, tmp_path: Path, settings) -> None:
    with pytest.raises(ModelError, match=r"base .*nothing: no config\.json, so no model"):
        train(config_of(base=tmp_path / "nothing"))
    folder = tmp_path / "pop"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"")
    config = json.loads((train_base(settings(steps=1, out=tmp_path / "plain")) / "config.json").read_text())
    config["_segtrain"] |= {"network": "pop", "pop": {"num_base": 2, "num_novel": 1}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="is a network 'pop': take a model of `segtrain train`"):
        train(config_of(base=folder))


def test_the_batch_of_a_step_has_both_pictures(config_of: MakeConfig) -> None:
    config = config_of()
    batch = MixedBatches(PairBatches(open_pairs(config.data, SPACE), SPACE, config, 0.3), None, config)[0]
    assert isinstance(batch, Batch) and batch.originals is not None
    assert batch.images.shape == batch.originals.shape == (2, 3, 32, 32)


def test_another_object_within_the_box_of_one_is_not_cut_with_it(
    config_of: MakeConfig, tmp_path: Path, write_shards
) -> None:
    """A ring around a square: two objects, and the box of the ring holds both."""
    image, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    mask[4:28, 4:28], mask[6:26, 6:26], mask[10:20, 10:20] = 254, 0, 254
    data = write_shards(tmp_path / "ring", [(image, mask)], originals=[(image, np.zeros_like(mask))])
    bank = bank_of(config_of(data=[str(data)]))
    assert [int(bank.cut(place)[1].sum()) for place in bank.places] == [24 * 24 - 20 * 20, 100]
