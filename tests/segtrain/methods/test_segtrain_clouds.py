"""`segtrain clouds` as a whole: its switches, kills, SAM, the defects of the released code, bad input."""

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
from safetensors.torch import save_file

from segkit.networks.sam import SamDecoder, construct
from segtrain.config import checked
from segtrain.errors import ConfigError, ModelError, RunError
from segtrain.methods.clouds.config import Config
from segtrain.methods.clouds.method import train
from segtrain.segmenter import load_model
from segtrain.self_training.teacher import Teacher

TINY = {
    "image_size": 32,
    "encoder_dim": 16,
    "encoder_depth": 1,
    "encoder_heads": 2,
    "window_size": 2,
    "global_attention": [0],
    "prompt_dim": 16,
    "decoder_depth": 1,
    "decoder_heads": 2,
    "decoder_mlp": 16,
    "iou_hidden": 16,
}


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAM of random weights."""
    folder = tmp_path_factory.mktemp("sam")
    torch.manual_seed(0)
    weights = construct(TINY).state_dict()
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(TINY))
    return folder


@pytest.fixture
def clouds(joint_values, sam: Path) -> Callable[..., Config]:
    """Every component of the teacher's answer over 8 pixels goes to SAM."""
    small = {"sam": sam, "teacher_every": 2, "teacher_decay": 0.5, "min_area": 8 / 1024}
    return lambda **changes: checked(Config, joint_values(**{**small, **changes}))


def test_the_preset_is_the_papers() -> None:
    fields = {name: field.default for name, field in Config.model_fields.items()}
    assert (fields["teacher_decay"], fields["teacher_every"], fields["teacher_ramp"]) == (0.999, 100, False)
    assert (fields["confidence"], fields["points"], fields["min_agreement"]) == ("none", 5, 0)
    assert (fields["sam_when"], fields["sam_prompts"], fields["student_view"]) == ("online", "points", "photometric")
    assert fields["min_area"] == pytest.approx(5000 / 768**2, rel=0.01)


@pytest.mark.parametrize(
    "changes",
    [
        {"sam": None},
        {"sam_when": "offline"},
        {"sam_prompts": "boxes"},
        {"points": 1},
        {"min_area": 0.4},
        {"min_agreement": 0.6},
        {"confidence": "threshold", "threshold": 0.6},
    ],
)
def test_each_switch_changes_what_is_learnt(clouds, tmp_path: Path, changes: dict[str, Any]) -> None:
    plain = train(clouds(out=tmp_path / "plain", learning_rate=1e-2))
    assert weights(train(clouds(out=tmp_path / "switched", learning_rate=1e-2, **changes))) != weights(plain)


@pytest.mark.parametrize("uncovered", ["negative", "teacher"])
def test_what_no_mask_covers_is_learnt_as_told(clouds, tmp_path: Path, uncovered: str) -> None:
    large = {"learning_rate": 1e-2, "min_area": 0.4}  # few components are as large, so much is left uncovered
    plain = train(clouds(out=tmp_path / "plain", **large))
    assert weights(train(clouds(out=tmp_path / "switched", **large, uncovered=uncovered))) != weights(plain)


@pytest.mark.parametrize("changes", [{}, {"sam_when": "offline", "confidence": "share", "threshold": 0.5}])
@pytest.mark.parametrize(("every", "step"), [(1, 2), (3, 5), (3, 7)])
def test_a_killed_training_goes_on_with_the_very_same_losses(
    clouds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], every: int, step: int
) -> None:
    changes = {**changes, "checkpoint_every": every, "log_every": 1}
    whole = train(clouds(out=tmp_path / "whole", **changes))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, step)
        train(clouds(**changes))
    again = train(clouds(**changes))
    assert weights(again) == weights(whole)
    assert curve(again, "loss") == curve(whole, "loss")
    facts = [json.loads((f / "config.json").read_text())["_segtrain"]["pseudo_labels"] for f in (again, whole)]
    assert facts[0] == facts[1]


@pytest.mark.slow
def test_a_process_killed_by_signal_goes_on_to_the_same_weights(clouds, tmp_path: Path) -> None:
    changes = {"steps": 30, "source_share": 0.1, "checkpoint_every": 1, "num_threads": 1}
    config = clouds(**changes)
    code = (
        "import sys; from segtrain.methods.clouds.config import Config; "
        "from segtrain.methods.clouds.method import train; train(Config.model_validate_json(sys.argv[1]))"
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
    assert weights(train(config)) == weights(train(clouds(out=tmp_path / "whole", **changes)))


def test_a_resume_keeps_the_teacher_and_does_not_make_it_the_student(
    clouds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The released code counts in a number that no checkpoint holds, and begins its teacher anew."""
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 7)
        train(clouds(checkpoint_every=1, learning_rate=1e-2))
    checkpoint = torch.load(tmp_path / "model" / "checkpoint.pt", weights_only=True)
    method, student = checkpoint["method"], checkpoint["network"]
    assert method["teacher.updates"] == 2  # after joint steps 2 and 4, of 5
    own = [name for name in student if f"teacher.network.{name}" in method and student[name].dim() > 1]
    assert own and all(not torch.equal(student[n], method[f"teacher.network.{n}"]) for n in own)


def test_the_teacher_has_statistics_of_its_own(clouds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The released code averages parameters alone: its teacher keeps the statistics of the first joint step."""
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 7)
        train(clouds(checkpoint_every=1, learning_rate=1e-2))
    checkpoint = torch.load(tmp_path / "model" / "checkpoint.pt", weights_only=True)
    means = [name for name in checkpoint["network"] if name.endswith("running_mean")]
    teacher, student = (
        [part[p + n] for n in means]
        for part, p in ((checkpoint["method"], "teacher.network."), (checkpoint["network"], ""))
    )
    assert means and all(not torch.equal(one, other) for one, other in zip(teacher, student, strict=True))


def test_numpys_global_generator_is_not_asked(clouds, tmp_path: Path) -> None:
    np.random.seed(1)
    one = weights(train(clouds(out=tmp_path / "a")))
    np.random.seed(2)
    assert weights(train(clouds(out=tmp_path / "b", num_workers=1))) == one


def test_offline_asks_once_a_picture_and_the_teacher_stays(
    clouds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    decode = SamDecoder.decode
    monkeypatch.setattr(
        SamDecoder,
        "decode",
        lambda self, images, prompts: asked.append(images[0].shape) or decode(self, images, prompts),
    )
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 29)
        train(clouds(sam_when="offline", steps=30, min_area=0.0, checkpoint_every=29))
    assert 1 <= len(asked) <= 6 and set(asked) <= {(40, 32, 3), (40, 40, 3)}, "whole pictures, of which there are six"
    checkpoint = torch.load(tmp_path / "model" / "checkpoint.pt", weights_only=True)
    assert checkpoint["method"]["teacher.updates"] == 0


@pytest.mark.parametrize("when", ["online", "offline"])
def test_a_class_whose_masks_sam_takes_away_is_told(
    clouds, when: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The teacher sees a thing left of the ground; SAM's mask of it covers nothing, that of the ground the ground."""

    def logits(self: Teacher, images: torch.Tensor, bfloat16: bool = False) -> torch.Tensor:
        thing = torch.arange(images.shape[-1]).expand(len(images), *images.shape[-2:]) < 16
        return torch.stack([~thing, thing], dim=1).float()

    def decode(self: SamDecoder, images: Any, prompts: Any) -> list[tuple[np.ndarray, np.ndarray]]:
        height, width = images[0].shape[:2]
        ground = np.broadcast_to(np.arange(width) >= 16, (height, width))
        masks = [ground & (x >= 16) for (x, _), *_ in prompts[0].points]
        return [(np.stack(masks), np.ones(len(masks), np.float32))]

    monkeypatch.setattr(Teacher, "logits", logits)
    monkeypatch.setattr(SamDecoder, "decode", decode)
    folder = train(clouds(sam_when=when, scale_min=1.0, scale_max=1.0))
    facts = json.loads((folder / "config.json").read_text())["_segtrain"]["pseudo_labels"]
    assert facts["thing"]["teacher_px"] > 0 and facts["thing"]["learnt_share"] == 0
    assert facts["ground"]["learnt_share"] == 1
    assert any(r.getMessage().startswith("no pseudo-label of thing ") for r in caplog.records)


def test_coverage_a_class_is_recorded_and_a_class_that_the_rules_take_away_is_told(
    clouds, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    folder = train(clouds(confidence="threshold", threshold=1.0))
    facts = json.loads((folder / "config.json").read_text())["_segtrain"]["pseudo_labels"]
    assert set(facts) == {"ground", "thing"}
    assert sum(entry["teacher_px"] for entry in facts.values()) > 0
    assert all(entry["learnt_share"] in (0.0, None) for entry in facts.values())
    lines = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("no pseudo-label of ") and "though the teacher sees it" in line for line in lines)


def test_pictures_show_components_and_sams_answer(clouds) -> None:
    folder = train(clouds(pictures_every=8, pictures_count=1))
    with Image.open(folder / "pictures" / "self_training-000008.png") as image:
        assert image.size == (7 * 98, 12 + 98)  # picture, teacher, components, SAM, student, target, weight


def test_the_model_is_a_plain_segmenter(clouds) -> None:
    folder = train(clouds(validation=clouds().data[0]))
    assert load_model(folder, "cpu").predict([np.zeros((40, 50, 3), np.uint8)])[0].shape == (40, 50)
    assert json.loads((folder / "validation.json").read_text())["num_images"] == 5


def test_another_sam_is_another_training(clouds, sam: Path, tmp_path: Path) -> None:
    train(clouds())
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in sam.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    assert train(clouds(sam=moved)), "the same weights elsewhere: finished already"
    torch.manual_seed(1)
    save_file({n: v.contiguous() for n, v in construct(TINY).state_dict().items()}, moved / "model.safetensors")
    with pytest.raises(RunError, match="belongs to a training with sam = "):
        train(clouds(sam=moved))


def test_bad_input_is_one_line(clouds, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.pth", tmp_path):
        with pytest.raises(ModelError, match=r"^sam .*: no weights of SAM there: give an official checkpoint \(") as e:
            train(clouds(sam=path))
        assert "\n" not in str(e.value) and not (tmp_path / "model").exists()
    with pytest.raises(ModelError, match=r"get it from https://\S+/sam_vit_h_4b8939\.pth \(SHA-256 a7bf3b02"):
        train(clouds(sam=tmp_path / "sam_vit_h_4b8939.pth"))
    other = tmp_path / "sam_vit_b.pth"
    other.write_bytes(b"no checkpoint")
    with pytest.raises(ModelError, match="is not a checkpoint of SAM vit_b"):
        train(clouds(sam=other))
    assert not (tmp_path / "model").exists()
    with pytest.raises(ConfigError, match="say what becomes of SAM's answer: give --sam"):
        clouds(sam=None, min_agreement=0.5)
    with pytest.raises(ConfigError, match="sam_when offline: looks at one picture at a time"):
        clouds(sam_when="offline", sinkhorn=True)
