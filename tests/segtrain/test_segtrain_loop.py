from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles.killed_training import Killed, kill_at, weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import segtrain.files
import segtrain.loop
from segkit.labels import Label, LabelSpace
from segkit.networks.folder import NetworkSpec
from segtrain.config import train_config
from segtrain.errors import ConfigError, DataError, ModelError, RunError
from segtrain.losses import cross_entropy
from segtrain.methods.supervised.method import train
from segtrain.optimiser import learning_rate
from segtrain.segmenter import Segmenter, load_model
from segtrain.trial import require_learns


@pytest.fixture
def whole(settings, tmp_path: Path) -> bytes:
    """Weights of a training that nobody disturbed."""
    return weights(train(settings(out=tmp_path / "whole")))


def test_the_same_seed_and_settings_give_the_same_weights(settings, tmp_path: Path, whole: bytes) -> None:
    assert weights(train(settings(out=tmp_path / "again", num_workers=1, checkpoint_every=100, log_every=1))) == whole
    assert weights(train(settings(out=tmp_path / "other", seed=1))) != whole


@pytest.mark.parametrize("step", [1, 2, 5])
def test_a_killed_training_goes_on_to_the_very_same_weights(
    settings, tmp_path: Path, monkeypatch, whole: bytes, step: int
) -> None:
    """Killed before the first checkpoint, right at one, and after two."""
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, step)
        train(settings())
    assert (tmp_path / "model" / "checkpoint.pt").is_file() == (step >= 2)
    assert weights(train(settings())) == whole
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
        "settings.json",
        "tensorboard",
    ]


def test_dropout_too_goes_on_where_it_stopped(settings, tmp_path: Path, monkeypatch) -> None:
    """PSPNet drops channels, with numbers from torch's global generator."""
    changes = {"arch": "PSPNet", "decoder_channels": "", "steps": 4}
    whole = weights(train(settings(out=tmp_path / "whole", **changes)))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 3)
        train(settings(**changes))
    assert weights(train(settings(**changes))) == whole


def test_a_kill_while_a_checkpoint_is_written_keeps_the_last_one(
    settings, tmp_path: Path, monkeypatch, whole: bytes
) -> None:
    """Half of the bytes are on disk under the temporary name when the second checkpoint dies."""
    written = []

    def half(path: Path, data: bytes) -> None:
        if path.name == "checkpoint.pt":
            written.append(path)
            if len(written) == 2:
                path.with_name(path.name + ".tmp").write_bytes(data[: len(data) // 2])
                raise Killed
        segtrain.files.write_whole(path, data)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("segtrain.run_folder.write_whole", half)
        train(settings())
    assert torch.load(tmp_path / "model" / "checkpoint.pt", weights_only=True)["step"] == 2
    assert weights(train(settings())) == whole


def test_a_process_killed_by_signal_is_continued(settings) -> None:
    """The real thing: SIGKILL, then the same call again."""
    config = settings(steps=40, checkpoint_every=1, num_threads=1)
    code = (
        "import sys; from segtrain.config import TrainConfig; from segtrain.methods.supervised.method import train; "
        "train(TrainConfig.model_validate_json(sys.argv[1]))"
    )
    with subprocess.Popen([sys.executable, "-c", code, config.model_dump_json()]) as process:
        deadline = time.monotonic() + 300
        while not (config.out / "checkpoint.pt").is_file() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert 0 < torch.load(config.out / "checkpoint.pt", weights_only=True)["step"] < 40
    assert not (config.out / "config.json").exists()
    assert load_model(train(config), "cpu").label_space.name == "golden"


def test_a_finished_folder_is_left_alone(settings, tmp_path: Path, monkeypatch) -> None:
    folder = train(settings(steps=1))
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    monkeypatch.setattr("segtrain.methods.supervised.method.build_segmenter", None)
    assert train(settings(steps=1, num_workers=1)) == folder
    assert times == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"learning_rate": 0.5}, r"belongs to a training with learning_rate = 0\.001, not 0\.5: choose another folder"),
        ({"ratio": [2.0]}, r"ratio = \[\], not \[2\.0\]"),
        ({"decoder_channels": "8,8,8,8,4"}, r"decoder_channels\[4\] = 8, not 4"),
    ],
)
def test_a_folder_of_another_training_is_refused_and_the_setting_named(
    settings, changes: dict[str, Any], says: str
) -> None:
    train(settings(steps=1))
    with pytest.raises(RunError, match=says):
        train(settings(steps=1, **changes))


def test_a_folder_of_another_dataset_is_refused(settings, tmp_path: Path, write_shards, pairs) -> None:
    for name, count in (("a", 2), ("b", 3)):
        write_shards(tmp_path / name, pairs(count))
    train(settings(steps=1, data=[str(tmp_path / "a")]))
    (tmp_path / "a").rename(tmp_path / "moved")
    train(settings(steps=1, data=[str(tmp_path / "moved")]))
    with pytest.raises(RunError, match=r"other files \(sources\[0\]\.content\): some were added, removed or changed"):
        train(settings(steps=1, data=[str(tmp_path / "b")]))
    with pytest.raises(RunError, match=r"a training with 1 sources, not 2: choose"):
        train(settings(steps=1, data=[str(tmp_path / "moved"), str(tmp_path / "b")]))


def test_foreign_files_and_unusable_folders_are_refused(settings, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match=r"holds files, but no settings.json"):
        train(settings())
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["thesis.txt"]
    with pytest.raises(RunError, match=r"thesis.txt: cannot be used as a folder"):
        train(settings(out=tmp_path / "model" / "thesis.txt"))


def test_a_damaged_checkpoint_is_named(settings, tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 3)
        train(settings())
    path = tmp_path / "model" / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(RunError, match=r"checkpoint.pt: damaged .* remove this file to train from the start"):
        train(settings())


def test_it_learns_the_golden_shapes_and_records_the_mix(
    settings, golden: Path, tmp_path: Path, write_folder, pairs
) -> None:
    real = write_folder(tmp_path / "real", [(image, mask * 0 + 255) for image, mask in pairs(2)], label_space=False)
    config = settings(
        data=[str(golden), str(real)],
        ratio=[3, 1],
        steps=50,
        batch_size=8,
        learning_rate=1e-2,
        validation=str(golden),
        validate_every=25,
        checkpoint_every=50,
    )
    folder = train(config)
    scores = json.loads((folder / "validation.json").read_text())
    assert scores["miou"] > 0.5
    assert scores["split"] == "validation"
    first, second = json.loads((folder / "config.json").read_text())["_segtrain"]["mix"]
    assert first["drawn"] + second["drawn"] == 400
    assert abs(first["drawn"] - 300) <= 2
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert {
        "train/loss",
        "train/learning_rate",
        "train/steps_per_s",
        "mix/source_0",
        "mix/source_1",
        "validation/miou",
    } <= set(events.Tags()["scalars"])
    losses = [event.value for event in events.Scalars("train/loss")]
    assert losses[-1] < losses[0] / 2
    assert set(np.unique(load_model(folder, "cpu").predict([np.zeros((50, 70, 3), np.uint8)])[0])) <= {0, 3, 7}


def test_an_id_outside_the_label_space_stops_the_training_in_one_line(
    settings, tmp_path: Path, write_shards, pairs
) -> None:
    data = write_shards(tmp_path / "d", [(image, mask + 1) for image, mask in pairs(2)])
    with pytest.raises(DataError, match=r"sample .: ids 1, 6 are not in label space 'toy'"):
        train(settings(data=[str(data)]))


def test_a_loss_that_leaves_the_numbers_stops_the_training(settings) -> None:
    with pytest.raises(RunError, match=r"the loss is (nan|inf) at step .: lower --learning-rate"):
        train(settings(learning_rate=1e30, log_every=1))


def test_images_that_are_all_ignored_train_to_finite_weights(settings, tmp_path: Path, write_shards, pairs) -> None:
    void = [(image, np.full_like(mask, value)) for (image, mask), value in zip(pairs(2), (254, 255), strict=True)]
    data = [str(write_shards(tmp_path / name, what)) for name, what in (("void", void), ("some", pairs(1)))]
    folder = train(settings(data=data, ratio=[8.0, 1.0]))
    assert all(torch.isfinite(t).all() for t in load_model(folder, "cpu").network.state_dict().values())


@pytest.mark.parametrize("crop", [32, 96])
def test_crops_too_small_for_a_network_are_one_line_before_training_begins(settings, tmp_path: Path, crop: int) -> None:
    says = rf"^PAN with encoder resnet18: cannot learn from 2 crops of {crop} px at once: .*: raise --crop$"
    with pytest.raises(ModelError, match=says):
        train(settings(arch="PAN", encoder="resnet18", decoder_channels="", crop_px=crop, out=tmp_path / "m"))
    assert not (tmp_path / "m").exists()


def test_the_crops_that_a_network_tries_first_change_nothing() -> None:
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Dropout(), torch.nn.Conv2d(3, 1, 1))
    network[0].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    segmenter = Segmenter(network, NetworkSpec({}), LabelSpace("toy", (Label(0, "ground"),)), torch.device("cpu"))
    numbers = torch.random.get_rng_state()
    require_learns(segmenter, 2, 32)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert [module.training for module in network] == [False, True, True]
    assert torch.equal(numbers, torch.random.get_rng_state())


def test_a_network_of_one_size_is_told_before_the_first_step(
    settings, tmp_path: Path, write_folder, pairs, caplog: pytest.LogCaptureFixture
) -> None:
    """Windows fit pictures of the encoder's own size alone, as those of Swin do: after hours the score of others would
    fail, and with it the training, whose model would not be saved."""
    held_out = write_folder(tmp_path / "held-out", pairs(1, (40, 48)))
    of_160_px = {"arch": "FPN", "encoder": "tu-test_maxvit", "decoder_channels": "", "crop_px": 160}
    says = "^validation .*f0000.png: FPN with encoder tu-test_maxvit: cannot take pictures of 64 x 64 px .*window"
    with pytest.raises(ModelError, match=says):
        train(settings(**of_160_px, data=[str(held_out)], validation=str(held_out)))
    assert not (tmp_path / "model").exists()
    train(settings(**of_160_px, dry_run=True))
    assert "cannot take pictures of 192 x 224 px" in caplog.text and "--tile 160" in caplog.text


def test_cross_entropy_is_the_mean_over_labelled_pixels() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(2, 3, 4, 5)), rng.choice([0, 1, 2, 255], size=(2, 4, 5))
    losses = []
    for b, y, x in np.argwhere(targets != 255):
        z = logits[b, :, y, x]
        losses.append(np.log(np.exp(z).sum()) - z[targets[b, y, x]])
    assert cross_entropy(torch.tensor(logits), torch.tensor(targets)).item() == pytest.approx(np.mean(losses))
    assert cross_entropy(torch.tensor(logits), torch.full((2, 4, 5), 255)).item() == 0


@pytest.mark.parametrize("schedule", ["poly", "cosine"])
def test_the_learning_rate_rises_and_falls(settings, schedule: str) -> None:
    config = settings(steps=100, warmup_steps=10, schedule=schedule, learning_rate=1.0)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert 0 < rates[-1] < 0.02


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stepz": 3}, "stepz: no such setting; there are: .*steps"),
        ({"steps": 0}, r"steps: Input should be greater than or equal to 1 \(got 0\)"),
        ({"crop_px": 50}, r"crop_px: .*multiple of 32 \(got 50\)"),
        ({"ratio": [1, 0]}, r"ratio\.1"),
        ({"data": []}, "data"),
        ({"decoder_channels": "8,x"}, r"decoder_channels\.1"),
        ({"scale_min": 2.0, "scale_max": 1.0}, "settings: scale_min 2.0 is above scale_max 1.0"),
        ({"schedule": "linear"}, "schedule"),
    ],
)
def test_a_bad_setting_gives_one_line(settings, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        settings(**changes)
    assert "\n" not in str(caught.value)


def test_settings_cannot_be_changed_later() -> None:
    config = train_config(data=["x"], out="y")
    with pytest.raises(ValueError, match="frozen"):
        config.steps = 3  # type: ignore[misc]
