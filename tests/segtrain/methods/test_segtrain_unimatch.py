"""`segtrain unimatch`, and all that methods of self-training share: switches, kills, what is logged, bad input."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles.killed_training import Killed, curve, kill_at, weights
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from segtrain.cli import app
from segtrain.config import checked
from segtrain.errors import ConfigError, DataError, ModelError, RunError
from segtrain.methods.supervised.method import train as train_plainly
from segtrain.methods.unimatch.config import Config
from segtrain.methods.unimatch.method import train
from segtrain.segmenter import load_model

PLAIN = {"cut_mix": 0.0, "student_view": "same", "confidence": "none"}


@pytest.fixture
def joint(joint_values) -> Callable[..., Config]:
    return lambda **changes: checked(Config, joint_values(**{"confidence": "none", **changes}))


def test_the_constants_are_unimatchs() -> None:
    fields = {name: field.default for name, field in Config.model_fields.items()}
    assert (fields["threshold"], fields["cut_mix"], fields["unlabelled_share"]) == (0.95, 0.5, 0.5)
    assert (fields["confidence"], fields["student_view"], fields["sinkhorn"]) == ("threshold", "strong", False)


@pytest.mark.parametrize(
    "changes",
    [
        {"cut_mix": 1.0},
        {"class_mix": 1.0},
        {"student_view": "photometric"},
        {"student_view": "strong"},
        {"confidence": "threshold", "threshold": 0.55},
        {"confidence": "share", "threshold": 0.55},
        {"sinkhorn": True},
        {"teacher_flips": True, "teacher_decay": 0.0},
        {"teacher_decay": 0.0, "source_share": 0.0},
        {"unlabelled_weight": 0.5},
        {"unlabelled_repeat": 0.5},
        {"freeze_encoder": True},
    ],
)
def test_each_switch_changes_what_is_learnt(joint, tmp_path: Path, changes: dict[str, Any]) -> None:
    """`freeze_encoder` with weights of a base model: random ones that stay are refused."""
    fixed: dict[str, Any] = {**PLAIN, "learning_rate": 1e-2}
    if "freeze_encoder" in changes:
        fixed["base"] = train(joint(out=tmp_path / "base", steps=2, source_share=0))
    plain = train(joint(out=tmp_path / "plain", **fixed))
    assert weights(train(joint(out=tmp_path / "switched", **{**fixed, **changes}))) != weights(plain)


def test_masks_of_the_unlabelled_are_heard_only_if_asked_and_must_be_of_known_classes(
    joint, tmp_path: Path, write_folder, pairs
) -> None:
    wrong = [(image, np.where(mask == 5, 0, 5).astype(np.uint8)) for image, mask in pairs(4, (64, 64))]
    theirs = str(write_folder(tmp_path / "masks", wrong))
    fixed: dict[str, Any] = {**PLAIN, "unlabelled": [theirs], "learning_rate": 1e-2, "confidence": "none"}
    deaf = train(joint(out=tmp_path / "deaf", **fixed))
    assert weights(train(joint(out=tmp_path / "agree", **fixed, their_masks="agree"))) != weights(deaf)
    (tmp_path / "masks" / "labels").rename(tmp_path / "masks" / "elsewhere")
    assert weights(train(joint(out=tmp_path / "none", **fixed, their_masks="agree"))) == weights(deaf)
    other = write_folder(
        tmp_path / "other", pairs(4, (64, 64)), classes=({"id": 0, "name": "sea"}, {"id": 5, "name": "x"})
    )
    with pytest.raises(DataError, match="sea"):
        train(joint(out=tmp_path / "x", **fixed | {"unlabelled": [str(other)]}, their_masks="agree"))


@pytest.mark.parametrize(("every", "step"), [(1, 1), (1, 2), (1, 5), (3, 2), (3, 7)])
def test_a_killed_training_goes_on_with_the_very_same_losses(
    joint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, step: int
) -> None:
    """Killed in the warm-up, right before the first joint step, and between two updates of the teacher."""
    changes = {"checkpoint_every": every, "log_every": 1, "teacher_every": 2, "class_mix": 0.5, "confidence": "share"}
    whole = train(joint(out=tmp_path / "whole", **changes))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, step)
        train(joint(**changes))
    again = train(joint(**changes))
    assert weights(again) == weights(whole)
    assert curve(again, "loss") == curve(whole, "loss")
    assert curve(again, "unlabelled") == curve(whole, "unlabelled") and len(curve(whole, "unlabelled")) == 6


@pytest.mark.slow
def test_a_process_killed_by_signal_goes_on_to_the_same_weights(joint, tmp_path: Path) -> None:
    """The real thing: SIGKILL in the joint phase, then the same call again."""
    changes = {"steps": 30, "source_share": 0.1, "checkpoint_every": 1, "num_threads": 1}
    config = joint(**changes)
    code = (
        "import sys; from segtrain.methods.unimatch.config import Config; "
        "from segtrain.methods.unimatch.method import train; train(Config.model_validate_json(sys.argv[1]))"
    )
    with subprocess.Popen([sys.executable, "-c", code, config.model_dump_json()]) as process:
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            path = config.out / "checkpoint.pt"
            if path.is_file() and torch.load(path, weights_only=True)["step"] > 6:
                break
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert not (config.out / "config.json").exists()
    assert weights(train(config)) == weights(train(joint(out=tmp_path / "whole", **changes)))


def test_any_number_of_workers_learns_the_same(joint, tmp_path: Path) -> None:
    one = train(joint(out=tmp_path / "none", class_mix=0.5))
    assert weights(train(joint(out=tmp_path / "two", class_mix=0.5, num_workers=2))) == weights(one)


def test_the_warm_up_is_plain_training_and_the_teacher_begins_as_what_it_gave(
    joint, settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A constant rate, so that the rate does not know how many steps there will be; killed before joint step 1."""
    changes = {"schedule": "constant", "checkpoint_every": 1, "steps": 4, "source_share": 0.5}
    plain = load_model(
        train_plainly(
            settings(data=list(joint().data), out=tmp_path / "plain", steps=2, batch_size=4, schedule="constant")
        ),
        "cpu",
    ).network.state_dict()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 3)
        train(joint(**changes, teacher_ramp=False, teacher_decay=0.9, teacher_every=100))
    checkpoint = torch.load(tmp_path / "model" / "checkpoint.pt", weights_only=True)
    assert checkpoint["step"] == 3 and checkpoint["method"]["teacher.updates"] == 0
    for name, value in plain.items():
        assert torch.allclose(checkpoint["method"][f"teacher.network.{name}"], value, atol=1e-5), name
        assert value.dim() == 0 or not torch.equal(checkpoint["network"][name], value), name


def test_a_checkpoint_of_another_teacher_is_one_line(joint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 5)
        train(joint(checkpoint_every=1))
    path = tmp_path / "model" / "checkpoint.pt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["method"]["teacher.network.decoder.foreign"] = torch.zeros(3)
    torch.save(checkpoint, path)
    with pytest.raises(RunError, match=r"teacher of the checkpoint: is of another network \('network.decoder.foreign'"):
        train(joint(checkpoint_every=1))


def test_what_is_logged_and_recorded(joint, photos: Path) -> None:
    folder = train(joint(log_every=1, confidence="threshold", threshold=0.0))
    assert curve(folder, "coverage")[-1] == 1.0 and curve(folder, "weight")[-1] == 1.0
    assert len(curve(folder, "labelled")) == 8 and len(curve(folder, "unlabelled")) == 6
    config = json.loads((folder / "config.json").read_text())["_segtrain"]
    assert [entry["drawn"] for entry in config["mix"]] == [20, 12]
    assert config["mix"][1] == {"source": "photos", "kind": "unlabelled folder", "drawn": 12}


def test_pictures_lie_in_the_folder_and_in_tensorboard(joint) -> None:
    folder = train(joint(pictures_every=4, cut_mix=1.0))
    assert sorted(path.name for path in (folder / "pictures").iterdir()) == [
        "self_training-000004.png",
        "self_training-000008.png",
    ]
    with Image.open(folder / "pictures" / "self_training-000008.png") as image:
        assert image.size == (5 * 98, 12 + 2 * 98)  # picture, teacher, student, target, weight; two crops, enlarged
        assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 3
    assert EventAccumulator(str(folder / "tensorboard")).Reload().Tags()["images"] == ["self_training"]


def test_pictures_change_no_weight(joint, tmp_path: Path) -> None:
    plain = train(joint(out=tmp_path / "plain"))
    assert weights(train(joint(out=tmp_path / "drawn", pictures_every=1, pictures_count=1))) == weights(plain)


def test_it_begins_with_a_base_model_and_its_classes(joint, tmp_path: Path) -> None:
    base = train(joint(out=tmp_path / "base"))
    config = joint(base=base, arch="FPN", encoder="nonsense", source_share=0.0, freeze_encoder=True)
    made, old = load_model(train(config), "cpu"), load_model(base, "cpu")
    assert made.spec == old.spec
    state, before = made.network.state_dict(), old.network.state_dict()
    assert all(torch.equal(state[n], before[n]) == n.startswith("encoder.") for n in state if state[n].dim() > 1)
    with pytest.raises(RunError, match="belongs to a training with base_model"):
        train(joint(base=train(joint(out=tmp_path / "other", seed=1)), source_share=0.0, freeze_encoder=True))


def test_pictures_of_another_size_are_told_once(joint, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    train(joint())
    lines = [r.getMessage() for r in caplog.records]
    assert [line for line in lines if "pictures of 32 x 40 px, the labelled ones of" in line] == lines[:1]


def test_bad_input_is_one_line(joint, tmp_path: Path, write_folder, pairs) -> None:
    one = write_folder(tmp_path / "one", [(i, m * 0) for i, m in pairs(2)])
    (one / "labels.yaml").write_text("name: toy\nlabels: [{id: 0, name: ground, colour: [9, 9, 9]}]\n")
    with pytest.raises(DataError, match=r"^label space 'toy': has the one class 'ground': a teacher has nothing to"):
        train(joint(data=[str(one)]))
    with pytest.raises(ConfigError, match=r"source_share 0.99 of 8 steps leaves none for the unlabelled pictures"):
        joint(source_share=0.99)
    with pytest.raises(ConfigError, match="freeze_encoder: random weights that never learn see nothing"):
        joint(freeze_encoder=True)
    with pytest.raises(ModelError, match=r"no config\.json, so no model"):
        train(joint(base=tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"batch_size 4: 95.2% of it are unlabelled crops, which leaves no labelled"):
        train(joint(unlabelled_repeat=50 / 3))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [([], "unlabelled: "), (["--unlabelled", "x", "--threshold", "2"], "threshold: ")],
)
def test_a_setting_that_cannot_be_is_one_line(tmp_path: Path, arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(app, ["unimatch", "--data", "x", "--out", str(tmp_path / "m"), *arguments])
    assert result.exit_code == 2
    if arguments:
        assert says in result.stderr and result.stderr.count("\n") == 1


def test_an_empty_folder_of_photographs_is_one_line(joint, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match=r"unlabelled .*void: no picture in it"):
        train(joint(unlabelled=[str(tmp_path / "void")]))


def test_every_constant_says_where_it_comes_from() -> None:
    tags = ("[CLOUDS", "[UniMatch", "[SENSE", "[DACS", "[ClassMix", "[ours", "[guess")
    own = [
        name
        for kind in Config.__mro__
        if kind.__module__.startswith(("segtrain.self_training", "segtrain.methods"))
        for name in vars(kind).get("__annotations__", {})
    ]
    plain = {"panel", "unlabelled", "base", "pictures_every", "pictures_count"}
    assert len(own) > 15
    for name in set(own) - plain:
        assert any(tag in (Config.model_fields[name].description or "") for tag in tags), name


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"teacher_decay": 0.999}, "over about the last 8 steps, of 8 that learn from unlabelled pictures"),
        ({"teacher_decay": 0.999, "source_share": 0.5}, "the last 4 steps, of 4"),
        ({"teacher_decay": 0.0}, ""),
        ({"teacher_decay": 0.5, "steps": 12}, ""),
        ({"teacher_decay": 0.5, "steps": 9}, "the last 2 steps, of 9"),
        ({"teacher_decay": 0.999, "teacher_ramp": False}, ""),
    ],
)
def test_a_teacher_that_remembers_too_much_of_a_short_training_is_told(
    joint, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], told: str
) -> None:
    """A mean over a large part of the training is a mean with what the student was when it knew nothing."""
    caplog.set_level(logging.WARNING)
    train(joint(**{"source_share": 0.0, "dry_run": True, **changes}))
    lines = [record.getMessage() for record in caplog.records if "the teacher is a mean" in record.getMessage()]
    assert len(lines) == bool(told) and all(told in line for line in lines)
