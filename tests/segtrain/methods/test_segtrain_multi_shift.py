"""`segtrain multi-shift` on networks of pixels: what learns when, margins and losses, kills, the base model."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles.killed_training import Killed, kill_at
from doubles.street_pairs import SPACE, MakeConfig, street_pairs
from safetensors.torch import load_file

from segkit.networks.folder import NetworkSpec, create_network
from segkit.networks.uncertainty import UncertaintyNetwork, with_uncertainty
from segkit.shards import ShardRows
from segtrain.config import checked
from segtrain.data.batches import Batch
from segtrain.data.pairs import PairBatches, open_pairs
from segtrain.errors import ConfigError, DataError, ModelError, RunError
from segtrain.methods.multi_shift.anomaly_mix import MixedBatches, ObjectBank
from segtrain.methods.multi_shift.config import Config
from segtrain.methods.multi_shift.method import MultiShift, train
from segtrain.methods.multi_shift.relative_contrast import Half
from segtrain.methods.multi_shift.uncertainty import _BY_BLOCKS, _PROJECTIONS, stage_groups
from segtrain.methods.supervised.method import train as train_base
from segtrain.optimiser import assign
from segtrain.segmenter import load_model


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


def test_a_part_of_stage_2_that_is_not_there_is_told_before_stage_1(config_of: MakeConfig, base: Path) -> None:
    config = config_of(out=base.parent / "other", stage1_share=0.5, freeze=["decoder.tail"], dry_run=True)
    with pytest.raises(ConfigError, match=r"no parameter is called 'decoder\.tail'"):
        train(config)


@pytest.mark.parametrize("arch", [*_PROJECTIONS, *_BY_BLOCKS, "FPN", "UnetPlusPlus"])
def test_every_architecture_has_the_parts_that_stay_in_stage_2(arch: str) -> None:
    arguments = {
        "_model_class": arch,
        "encoder_name": "resnet18",
        "encoder_weights": None,
        "in_channels": 3,
        "classes": 3,
    }
    network = with_uncertainty(create_network(NetworkSpec(arguments)))
    assert isinstance(network, UncertaintyNetwork)
    config = checked(Config, {"data": ["x"], "out": "y", "base": "z"})
    group_of = assign(network, stage_groups(network, arch, config, 2))
    frozen = {name for name, group in group_of.items() if group.frozen}
    assert {name for name in group_of if name.startswith(("encoder.", "classifier."))} <= frozen
    if arch in (*_PROJECTIONS, *_BY_BLOCKS):
        assert any(name.startswith("decoder.") for name in frozen)
    assert any(name.startswith("decoder.") for name in group_of.keys() - frozen)


@pytest.mark.parametrize("base", [("Unet", "resnet18"), ("FPN", "resnet18"), ("DeepLabV3", "resnet18")], indirect=True)
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
