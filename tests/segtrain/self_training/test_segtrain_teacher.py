"""The teacher: what averages, what is shared, what the checkpoint holds."""

from __future__ import annotations

from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch

from segkit.labels import Label, LabelSpace
from segkit.networks.folder import NetworkSpec
from segtrain.errors import RunError
from segtrain.segmenter import Segmenter
from segtrain.self_training.config import SelfTrainingSettings
from segtrain.self_training.teacher import Teacher

SPACE = LabelSpace("toy", (Label(0, "ground"), Label(5, "thing")))


def student(frozen: bool = False, classes: int = 2) -> Segmenter:
    torch.manual_seed(0)
    network = smp.create_model("FPN", "tu-test_efficientnet", encoder_weights=None, classes=classes)
    if frozen:
        network.encoder.requires_grad_(False)
    return Segmenter(network, NetworkSpec({}), SPACE, torch.device("cpu"))


def settings(**changes: Any) -> SelfTrainingSettings:
    return SelfTrainingSettings(unlabelled=("x",), **changes)


def shift(segmenter: Segmenter) -> None:
    """All that learns, and the statistics, grow by one."""
    with torch.no_grad():
        for parameter in segmenter.network.parameters():
            if parameter.requires_grad:
                parameter += 1
        for buffer in segmenter.network.buffers():
            buffer += 1


def test_parameters_and_buffers_average_and_counters_are_copied() -> None:
    ours = student()
    teacher = Teacher(ours, settings(teacher_decay=0.75, teacher_ramp=False))
    before = {name: value.clone() for name, value in teacher.network.state_dict().items()}
    shift(ours)
    teacher.update(ours.network, 1)
    assert sum(name.endswith("running_mean") for name in before) > 3
    for name, value in teacher.network.state_dict().items():
        expected = before[name] + (0.25 if value.is_floating_point() else 1)
        assert torch.allclose(value, expected, atol=1e-6), name


def test_updates_come_at_their_interval_and_the_ramp_keeps_less_at_first() -> None:
    ours = student()
    teacher = Teacher(ours, settings(teacher_decay=0.6, teacher_every=3, teacher_ramp=True))
    name, start = next((n, p.clone()) for n, p in teacher.network.named_parameters())
    shift(ours)
    distance = 1.0
    for joint_steps in range(1, 13):
        teacher.update(ours.network, joint_steps)
        if joint_steps % 3 == 0:
            distance *= min(0.6, 1 - 1 / (joint_steps // 3 + 1))
        moved = dict(teacher.network.named_parameters())[name] - start
        assert torch.allclose(moved, torch.full_like(moved, 1 - distance), atol=1e-5), joint_steps
    assert teacher.updates == 4


def test_what_is_frozen_is_shared_and_takes_no_place_in_the_checkpoint() -> None:
    ours = student(frozen=True)
    teacher = Teacher(ours, settings())
    theirs = dict(teacher.network.named_parameters())
    for name, parameter in ours.network.named_parameters():
        assert (theirs[name] is parameter) == name.startswith("encoder."), name
    kept = {name for name in teacher.state() if "running" not in name and "num_batches" not in name}
    assert kept == {"updates"} | {
        f"network.{name}" for name, p in ours.network.named_parameters() if not name.startswith("encoder.")
    }
    assert all(p.requires_grad for name, p in ours.network.named_parameters() if not name.startswith("encoder."))


def test_it_answers_like_a_network_that_infers_and_never_learns() -> None:
    ours = student()
    teacher = Teacher(ours, settings())
    ours.network.train()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    before = {name: value.clone() for name, value in teacher.network.state_dict().items()}
    answer = teacher.logits(images)
    assert not answer.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in teacher.network.state_dict().items())
    with torch.no_grad():
        ours.network.eval()
        assert torch.allclose(answer, ours.logits(images), atol=1e-5)


def test_flips_average_probabilities() -> None:
    ours = student()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    plain, both = Teacher(ours, settings()), Teacher(ours, settings(teacher_flips=True))
    expected = (plain.logits(images).softmax(1) + plain.logits(images.flip(-1)).flip(-1).softmax(1)) / 2
    assert torch.allclose(both.logits(images).softmax(dim=1), expected, atol=1e-5)
    assert torch.allclose(both.logits(images.flip(-1)).flip(-1), both.logits(images), atol=1e-4)


def test_its_state_goes_on_where_it_was_and_that_of_another_network_is_refused() -> None:
    ours = student()
    one = Teacher(ours, settings(teacher_decay=0.5, teacher_ramp=False))
    shift(ours)
    one.update(ours.network, 1)
    again = Teacher(student(), settings(teacher_decay=0.5, teacher_ramp=False))
    again.load_state({name: value.clone() for name, value in one.state().items()})
    assert again.updates == 1
    assert all(torch.equal(value, again.network.state_dict()[name]) for name, value in one.network.state_dict().items())
    other = Teacher(student(classes=3), settings()).state()
    for wrong in (other, {**one.state(), "network.more": torch.zeros(1)}, {"updates": torch.tensor(1)}):
        with pytest.raises(RunError, match=r"^teacher of the checkpoint: is of another network \(.*\): remove"):
            again.load_state(wrong)
