"""`segtrain flex-seg` as a whole: switches, kills, workers, what is logged, bad input."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from doubles.killed_training import Killed, curve, kill_at, weights
from typer.testing import CliRunner

import segtrain.loop
import segtrain.segmenter
from segtrain.cli import app
from segtrain.config import checked
from segtrain.data.batches import Draft
from segtrain.data.mixture import Mixture, open_sources
from segtrain.errors import ConfigError, ModelError, RunError
from segtrain.losses import cross_entropy
from segtrain.methods.flex_seg.config import Config
from segtrain.methods.flex_seg.feature_distance import FrozenEncoder, feature_distance, thing_cells
from segtrain.methods.flex_seg.has import Hardness
from segtrain.methods.flex_seg.method import FlexSeg, premise, train
from segtrain.methods.supervised.method import train as train_plainly
from segtrain.segmenter import load_model

PLAIN = {"gap": False, "has": False, "boundary_strategy": "none", "rcs": "none"}


@pytest.fixture
def flex(settings, tmp_path: Path, write_folder, pairs) -> Callable[..., Config]:
    """Two folders of 5 and 3 images, 8 steps of 3, folds every other step, GAP from the third step on."""
    data = [str(write_folder(tmp_path / name, pairs(count))) for name, count in (("a", 5), ("b", 3))]
    small = {
        "gap_width": 8,
        "gap_warm_start": 2,
        "has_update_every": 2,
        "has_schedule": "linear",
        "has_temperature": 0.01,
    }

    def make(**changes: Any) -> Config:
        values = {**settings(data=data, steps=8).model_dump(exclude_unset=True), **small, **changes}
        return checked(Config, values)

    return make


def test_with_all_switches_off_it_is_plain_training(flex, settings, tmp_path: Path) -> None:
    config = flex(out=tmp_path / "flex", **PLAIN)
    plain = settings(data=list(config.data), out=tmp_path / "plain", steps=8)
    ours, theirs = (load_model(f, "cpu").network.state_dict() for f in (train(config), train_plainly(plain)))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in theirs)


@pytest.mark.parametrize(
    "changes",
    [{"gap": True}, {"has": True}, {"boundary_strategy": "ube"}, {"boundary_strategy": "enhance"}, {"rcs": "first"}],
)
def test_each_switch_changes_what_is_learnt(flex, tmp_path: Path, changes: dict[str, Any]) -> None:
    plain = train(flex(out=tmp_path / "plain", **PLAIN))
    assert weights(train(flex(out=tmp_path / "switched", **{**PLAIN, **changes}))) != weights(plain)


@pytest.mark.parametrize("step", [3, 5, 7])
@pytest.mark.parametrize("every", [1, 3])
def test_a_killed_training_goes_on_with_the_very_same_losses(
    flex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, every: int
) -> None:
    """Killed in the middle of a chunk of HAS and at its end, before and after GAP's loss counts."""
    changes = {"checkpoint_every": every, "log_every": 1}
    whole = train(flex(out=tmp_path / "whole", **changes))

    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, step)
        train(flex(**changes))
    again = train(flex(**changes))
    assert weights(again) == weights(whole)
    for name in ("loss", "boundary", "cross_entropy", "gap"):
        assert curve(again, name) == curve(whole, name)
    assert curve(whole, "gap")[:2] == [0, 0] and all(value > 0 for value in curve(whole, "gap")[2:])


def test_a_killed_training_within_classes_goes_on_with_the_very_same_losses(
    flex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"has_within": "class", "has_schedule": "always", "rcs": "all", "log_every": 1}
    whole = train(flex(out=tmp_path / "whole", **changes))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 5)
        train(flex(**changes))
    again = train(flex(**changes))
    assert weights(again) == weights(whole) and curve(again, "loss") == curve(whole, "loss")


@pytest.mark.parametrize("rcs", ["none", "first", "all"])
def test_within_classes_hard_batches_keep_the_mix_and_the_classes(flex, monkeypatch, rcs: str) -> None:
    """A sharp softmax: the hardest image that shows the class is drawn, whatever is harder without it."""
    seen: list[tuple[list[Draft], list[Draft]]] = []

    drafts_of = FlexSeg._drafts

    def look(method: FlexSeg, first_step: int) -> Iterator[list[Draft]]:
        for step, drafts in enumerate(drafts_of(method, first_step), first_step):
            seen.append((drafts, method._mixture.drafts(step)))
            yield drafts

    monkeypatch.setattr(FlexSeg, "_drafts", look)
    train(flex(has_within="class", has_schedule="always", has_temperature=1e-3, steps=16, rcs=rcs))
    assert len(seen) == 16
    for hard, ordinary in seen:
        assert [dataclasses.replace(draft, row=0) for draft in hard] == [
            dataclasses.replace(draft, row=0) for draft in ordinary
        ]
    rows = [[draft.row for draft in hard] for hard, _ in seen]
    assert rows != [[draft.row for draft in ordinary] for _, ordinary in seen]
    last = [(draft.source, draft.wanted, draft.row) for hard, _ in seen[-2:] for draft in hard]
    assert len({(source, wanted) for source, wanted, _ in last}) == len(set(last)), "one hardest image of each kind"


def test_any_number_of_workers_draws_the_same(flex, tmp_path: Path) -> None:
    """Drawn by hardness with a sharp softmax: another table would be another batch."""
    changes = {"has_schedule": "always", "steps": 12, "has_temperature": 0.001}
    one = train(flex(out=tmp_path / "none", **changes))
    assert weights(train(flex(out=tmp_path / "one", num_workers=1, **changes))) == weights(one)
    with pytest.raises(ConfigError, match="has_update_every 2: 2 workers read 4 batches ahead"):
        flex(num_workers=2)


def test_hard_images_come_more_often_and_the_mix_that_came_of_it_is_recorded(
    flex, tmp_path: Path, write_folder, pairs
) -> None:
    """The labels of the second set are noise, so its images stay hard; each set would give one half."""
    rng = np.random.default_rng(0)
    noise = [(image, rng.choice([0, 5], size=mask.shape).astype(np.uint8)) for image, mask in pairs(5)]
    data = [*flex().data[:1], str(write_folder(tmp_path / "noise", noise))]
    changes = {**PLAIN, "data": data, "steps": 60, "learning_rate": 1e-2, "has_ema": 0.2}
    counts = {}
    for has in (False, True):
        folder = train(flex(out=tmp_path / f"m{has}", **{**changes, "has": has, "has_schedule": "always"}))
        mix = json.loads((folder / "config.json").read_text())["_segtrain"]["mix"]
        counts[has] = [source["drawn"] for source in mix]
    assert sum(counts[True]) == sum(counts[False]) == 180
    assert abs(counts[False][1] - 90) <= 2 and counts[True][1] > 130


def test_the_checkpoint_holds_bank_and_table_and_refuses_those_of_other_data(
    flex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 5)
        train(flex())
    path = tmp_path / "model" / "checkpoint.pt"
    checkpoint = torch.load(path, weights_only=True)
    method = checkpoint["method"]
    assert method["bank.prototypes"].shape == (2, 3, 8) and method["bank.counts"].sum() > 0
    assert method["hardness.newest"].shape == (8,) and method["hardness.folds"] == 2
    assert any(name.startswith("projector.") for name in checkpoint["optimiser"])
    checkpoint["method"]["hardness.data"] = checkpoint["method"]["hardness.data"] + 1
    torch.save(checkpoint, path)
    with pytest.raises(RunError, match="hardness table of the checkpoint: is of other data"):
        train(flex())


def test_the_saved_model_is_a_plain_segmenter(flex) -> None:
    folder = train(flex(validation=flex().data[0], validate_every=3))
    for path in (folder, folder / "best"):
        network = load_model(path, "cpu").network
        assert not [name for name in network.state_dict() if "projector" in name]
    assert json.loads((folder / "validation.json").read_text())["num_images"] == 5


def test_the_premise_is_logged_where_the_log_is(flex, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("segtrain.methods.flex_seg.method.premise", lambda *a: calls.append(1) or premise(*a))
    folder = train(flex(log_every=4))
    for name in ("entropy_boundary", "entropy_interior", "error_boundary", "error_interior"):
        assert len(curve(folder, name)) == 2 == len(calls)


def test_the_premise_against_counting_pixels() -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(2, 3, 8, 9))).float()
    targets = torch.from_numpy(rng.choice([0, 1, 2, 254, 255], size=(2, 8, 9)).astype(np.uint8))
    in_band, labelled = torch.from_numpy(rng.random((2, 8, 9)) < 0.5), targets < 254
    made = premise(logits, targets, in_band, labelled)
    p = logits.double().softmax(dim=1)
    entropy, wrong = -(p * p.log()).sum(dim=1), (logits.argmax(dim=1) != targets).double()
    for where, mask in (("boundary", in_band & labelled), ("interior", ~in_band & labelled)):
        assert made[f"entropy_{where}"].item() == pytest.approx(entropy[mask].mean().item(), rel=1e-5)
        assert made[f"error_{where}"].item() == pytest.approx(wrong[mask].mean().item())


@pytest.mark.parametrize(
    "changes",
    [
        {"arch": "FPN", "decoder_channels": ()},
        {"arch": "FPN", "decoder_channels": (), "gap_stride": 1},
        {"gap_stride": 4, "band_px": "3,5", "boundary_strategy": "clip"},
        {"arch": "Segformer", "decoder_channels": (), "precision": "bfloat16"},
    ],
)
def test_any_decoder_and_any_stride_train(flex, changes: dict[str, Any]) -> None:
    folder = train(flex(**changes, log_every=1))
    assert curve(folder, "gap")[-1] > 0 and load_model(folder, "cpu")


def test_a_decoder_that_takes_more_than_maps_is_one_line(flex) -> None:
    with pytest.raises(ModelError, match="smp DPT: its decoder takes more than maps: choose another --arch"):
        train(flex(arch="DPT", encoder="tu-vit_tiny_patch16_224", decoder_channels=()))


@pytest.mark.parametrize("rcs", ["none", "first"])
def test_classes_that_never_touch_and_void_images_are_told_and_are_no_nan(
    flex, tmp_path: Path, write_folder, pairs, caplog: pytest.LogCaptureFixture, rcs: str
) -> None:
    """One image of each class alone, one of nothing: no boundary anywhere."""
    caplog.set_level(logging.WARNING)
    alone = [(image, np.full_like(mask, value)) for (image, mask), value in zip(pairs(3), (0, 5, 255), strict=True)]
    folder = train(flex(data=[str(write_folder(tmp_path / "alone", alone))], log_every=1, rcs=rcs, has=False))
    assert all(np.isfinite(curve(folder, name)).all() for name in ("loss", "gap", "entropy_boundary"))
    assert set(curve(folder, "gap")) == {0.0}
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count("no boundary of ground, thing in 2 steps: no prototype of it yet") == 1
    void = f"{tmp_path / 'alone'}: f0002.png has no labelled pixel (all 254 or 255): nothing is learnt from it"
    assert lines.count(void) == 1


def test_hardness_is_the_plain_cross_entropy_of_each_image(flex) -> None:
    """Not the weighted one: long boundaries are not hard."""
    config = flex(boundary_strategy="enhance", boundary_enhance=9.0)
    sources, space = open_sources(config)
    method = FlexSeg(Mixture(sources, space, config), config, sources, space, [])
    segmenter, batch = method.build(torch.device("cpu")), next(method.batches(0))
    made = method.loss(segmenter, batch, 0)
    logits = segmenter.logits(batch.images)
    plain = [cross_entropy(one[None], target[None]).item() for one, target in zip(logits, batch.targets, strict=True)]
    assert method._seen.image_losses is not None
    assert method._seen.image_losses.tolist() == pytest.approx(plain, rel=1e-5)
    assert made["boundary"].item() > 2 * made["cross_entropy"].item()


def test_a_void_image_has_no_hardness(flex, tmp_path: Path, write_folder, pairs, monkeypatch) -> None:
    tables = []
    fold = Hardness.fold
    monkeypatch.setattr(Hardness, "fold", lambda self, done: tables.append(self) or fold(self, done))
    images = [(image, mask if number else mask * 0 + 255) for number, (image, mask) in enumerate(pairs(3))]
    train(flex(data=[str(write_folder(tmp_path / "v", images))], rcs="none", has_schedule="none", steps=12))
    table = tables[-1]
    assert table._visited.tolist() == [False, True, True]


# feature distance


def test_the_feature_distance_against_a_loop_over_cells() -> None:
    rng = np.random.default_rng(0)
    ours, frozen = (torch.from_numpy(rng.normal(size=(2, 6, 3, 4))).float() for _ in range(2))
    targets = torch.from_numpy(rng.choice([0, 1, 1, 1, 1, 2, 255], size=(2, 24, 32)).astype(np.uint8))
    targets[:, :8, :8] = 2
    cells = thing_cells(targets, (3, 4), [1, 2], 3, 0.6)
    distances = []
    for b, row, column in np.ndindex(2, 3, 4):
        window = targets[b, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
        of_thing = any((window == thing).float().mean() >= 0.6 for thing in (1, 2))
        assert bool(cells[b, row, column]) == of_thing
        if of_thing:
            distances.append((ours - frozen)[b, :, row, column].norm().item())
    assert 2 <= len(distances) < 24
    assert feature_distance(ours, frozen, cells).item() == pytest.approx(np.mean(distances), rel=1e-5)


def test_the_distance_is_0_at_the_start_with_a_gradient_that_is_a_number() -> None:
    ours = torch.ones(1, 2, 2, 2, requires_grad=True)
    distance = feature_distance(ours, ours.detach().clone(), torch.ones(1, 2, 2, dtype=torch.bool))
    distance.backward()
    assert distance.item() == 0 and ours.grad is not None and torch.isfinite(ours.grad).all()
    assert feature_distance(ours, ours.detach(), torch.zeros(1, 2, 2, dtype=torch.bool)).item() == 0


def test_the_feature_distance_holds_the_encoder_and_asks_for_its_weights(flex, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(
        ConfigError, match=r"^settings: fd: .* encoder_weights is none: set --encoder-weights, or leave out --fd$"
    ):
        flex(fd=True)
    with pytest.raises(ConfigError, match="fd_classes: none of them is a class of 'toy'"):
        train(flex(fd=True, encoder_weights="imagenet"))
    # Random weights stand for those of ImageNet: nothing is downloaded.
    create = segtrain.segmenter.create_network
    monkeypatch.setattr(segtrain.segmenter, "create_network", lambda spec, encoder_weights=None: create(spec, None))
    made = {}
    for weight in (0.0, 3.0):
        things = {"fd_classes": ("thing", "ground"), "fd_majority": 0.4}
        changes = {**PLAIN, **things, "fd": True, "fd_weight": weight, "encoder_weights": "imagenet", "log_every": 1}
        folder = train(flex(out=tmp_path / f"fd{weight}", **changes))
        parts = zip(curve(folder, "loss"), curve(folder, "boundary"), curve(folder, "feature_distance"), strict=True)
        for loss, boundary, distance in parts:
            assert distance > 0 and loss == pytest.approx(boundary + weight * distance, rel=1e-5)
        made[weight] = load_model(folder, "cpu").network.encoder.state_dict()  # type: ignore[union-attr]
    assert any(not torch.equal(made[0.0][name], made[3.0][name]) for name in made[0.0])


def test_the_feature_distance_is_to_the_named_weights_where_a_training_begins_with_a_model(
    flex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = segtrain.segmenter.create_network
    monkeypatch.setattr(segtrain.segmenter, "create_network", lambda spec, encoder_weights=None: create(spec, None))
    begun = train(flex(out=tmp_path / "begun", **PLAIN))
    options = {**PLAIN, "fd": True, "fd_classes": ("thing",), "encoder_weights": "imagenet"}
    encoders = []
    for config in (flex(**options), flex(**options, init_from=begun)):
        sources, space = open_sources(config)
        method = FlexSeg(Mixture(sources, space, config), config, sources, space, [1])
        learning = method.build(torch.device("cpu")).network.get_submodule("encoder")
        assert method._frozen is not None
        encoders.append((learning.state_dict(), method._frozen._network.encoder.state_dict()))  # type: ignore[union-attr]
    (plain, plain_frozen), (later, later_frozen) = encoders
    assert all(torch.equal(plain[name], plain_frozen[name]) for name in plain)
    assert all(torch.equal(plain_frozen[name], later_frozen[name]) for name in plain)
    assert any(not torch.equal(plain[name], later[name]) for name in plain)


def test_the_frozen_encoder_stays_as_it_was_while_the_other_one_learns() -> None:
    network = smp.create_model("FPN", "tu-test_efficientnet", encoder_weights=None)
    frozen, images = FrozenEncoder(network), torch.rand(2, 3, 64, 64)
    before = frozen.last_map(images)
    network.train()
    network(images).sum().backward()
    torch.optim.SGD(network.parameters(), 0.1).step()
    assert torch.equal(frozen.last_map(images), before) and not before.requires_grad
    with torch.no_grad():
        assert not torch.allclose(network.eval().encoder(images)[-1], before)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--boundary-strategy", "blur"], "boundary_strategy: "),
        (["--band-px", "3,4"], "band_px 3,4: needs odd numbers from 3 on that grow"),
        (["--band-fractions", "0.2", "--band-fractions", "0.1"], "band_fractions 0.2 0.1: must grow"),
        (["--has-schedule", "cosine"], "has_schedule: "),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(tmp_path: Path, arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(app, ["flex-seg", "--data", "x", "--out", str(tmp_path / "m"), *arguments])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert says in result.stderr


def test_every_constant_says_where_it_comes_from() -> None:
    tags = ("[paper", "[page", "[code", "[guess", "[ours", "[paper:")
    own = [
        name
        for kind in Config.__mro__
        if kind.__module__ == Config.__module__
        for name in vars(kind).get("__annotations__", {})
    ]
    switches = {"gap", "has", "fd", "panel", "band_px"}
    assert len(own) > 30
    for name in set(own) - switches:
        assert any(tag in (Config.model_fields[name].description or "") for tag in tags), name
