"""Components, points, SAM's masks as labels, negatives: against slow references."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segkit.networks.sam import MaskPrompts
from segkit.regions import connected_components
from segtrain.methods.clouds.method import Clouds
from segtrain.methods.clouds.negatives import none_of_the_present, present_in
from segtrain.methods.clouds.offline import OncePerPicture
from segtrain.methods.clouds.pictures import columns
from segtrain.methods.clouds.points import large_components, prompts_of, random_points
from segtrain.methods.clouds.sam_labels import Rules, agreement, redraw, united

masks_of_classes = arrays(
    np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 1, 2, 255])
)


class Answers:
    """A SAM that gives the masks it was made with, or those of `answer` of the prompts."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.asked = answer, []

    def decode(self, images: Any, prompts: Any) -> list[tuple[np.ndarray, np.ndarray]]:
        self.asked.append(prompts[0])
        masks = self.answer(images[0], prompts[0]) if callable(self.answer) else self.answer
        return [(masks, np.ones(len(masks), np.float32))]


def rules(**changes: Any) -> Rules:
    values = {"prompts": "points", "points": 5, "min_area": 0.0, "min_agreement": 0.0, "uncovered": "ignore"}
    return Rules(**{**values, **changes})


def test_the_area_rule_drops_what_is_no_larger_and_corners_do_not_join() -> None:
    channels = np.zeros((10, 10), np.uint8)
    channels[0:2, 0:3] = 1  # 6 px
    channels[2:3, 3:8] = 1  # 5 px, touches the first at a corner only
    assert large_components(channels, 0.05).areas_px.tolist() == [89, 6]
    assert large_components(channels, 0.06).areas_px.tolist() == [89]
    assert large_components(channels, 0.049).areas_px.tolist() == [89, 6, 5]


def test_the_papers_share_is_its_5000_pixels() -> None:
    def areas(extra: int) -> list[int]:
        channels = np.full((768, 768), 255, np.uint8)
        channels.ravel()[: 5013 + extra] = 1
        return large_components(channels, 0.0085).areas_px.tolist()

    assert areas(0) == [] and areas(1) == [5014]  # 0.0085 x 768 x 768 = 5013.5


@settings(max_examples=80, deadline=None)
@given(masks_of_classes, st.integers(1, 7), st.integers(0, 999))
def test_points_are_distinct_pixels_of_their_component(channels: np.ndarray, count: int, seed: int) -> None:
    components = connected_components(channels, connectivity=4)
    points = random_points(components, count, np.random.default_rng(seed))
    assert points.shape == (len(components), count, 2) and points.dtype == np.float32
    for number, of_component in enumerate(points.astype(int)):
        x, y = of_component.T
        assert (components.index[y, x] == number + 1).all()
        assert len(set(map(tuple, of_component.tolist()))) == min(count, components.areas_px[number])
    again = random_points(components, count, np.random.default_rng(seed))
    assert (again == points).all()


def test_every_pixel_of_a_component_is_as_likely() -> None:
    channels = np.full((6, 6), 255, np.uint8)
    channels[1:5, 2:5] = 1
    components = connected_components(channels, connectivity=4)
    counts = np.zeros((6, 6))
    for seed in range(1200):
        [points] = random_points(components, 2, np.random.default_rng(seed))
        for x, y in points.astype(int):
            counts[y, x] += 1
    assert (counts[channels == 255] == 0).all()
    assert np.allclose(counts[channels == 1] / 1200, 2 / 12, atol=0.05)


def test_boxes_are_those_of_the_components() -> None:
    channels = np.zeros((10, 12), np.uint8)
    channels[2:5, 3:9] = 1
    components = large_components(channels, 0.0)
    prompts = prompts_of(components, "boxes", 5, np.random.default_rng(0))
    assert prompts.points is None and prompts.boxes.tolist() == [[0, 0, 12, 10], [3, 2, 9, 5]]


# SAM's masks as labels


def reference(masks: np.ndarray, classes: list[int], teacher: np.ndarray, uncovered: str) -> np.ndarray:
    labels = np.full(teacher.shape, 255)
    for place in np.ndindex(*teacher.shape):
        covering = [number for number in range(len(masks)) if masks[number][place]]
        if teacher[place] != 255:
            rest = {"ignore": 255, "negative": 254, "teacher": teacher[place]}[uncovered]
            labels[place] = classes[covering[0]] if len(covering) == 1 else rest
    return labels


@settings(max_examples=60, deadline=None)
@given(masks_of_classes, st.integers(0, 999), st.sampled_from(["ignore", "negative", "teacher"]))
def test_labels_are_those_of_a_loop_over_pixels(teacher: np.ndarray, seed: int, uncovered: str) -> None:
    components = connected_components(teacher, connectivity=4)
    masks = np.random.default_rng(seed).random((len(components), *teacher.shape)) < 0.3
    made = united(masks, components, teacher, rules(uncovered=uncovered))
    alone = (masks.sum(axis=0) == 1) & (teacher != 255)
    if alone.any():
        assert (made == reference(masks, components.class_ids.tolist(), teacher, uncovered)).all()
    else:
        assert (made == teacher).all()


def test_overlaps_of_one_class_are_removed_too() -> None:
    teacher = np.array([[1, 1, 0, 1, 1]], np.uint8)
    components = connected_components(teacher, connectivity=4)
    assert components.class_ids.tolist() == [0, 1, 1]
    masks = np.array([[[0, 0, 0, 0, 0]], [[1, 1, 1, 0, 0]], [[0, 0, 1, 1, 1]]], bool)
    assert united(masks, components, teacher, rules()).tolist() == [[1, 1, 255, 1, 1]]


def test_a_class_whose_masks_lose_all_their_pixels_has_no_target() -> None:
    """Not an empty one, which would train its query to nothing."""
    teacher = np.array([[0, 0, 1, 2]], np.uint8)
    components = connected_components(teacher, connectivity=4)
    masks = np.array([[[1, 1, 0, 0]], [[0, 0, 1, 1]], [[0, 0, 1, 1]]], bool)
    made = united(masks, components, teacher, rules(uncovered="negative"))
    assert made.tolist() == [[0, 0, 254, 254]] and not np.isin(made, [1, 2]).any()


def test_a_mask_that_is_of_something_else_can_be_refused() -> None:
    teacher = np.array([[0, 0, 0, 0, 1, 1, 1, 1]], np.uint8)
    components = connected_components(teacher, connectivity=4)
    masks = np.array([[[1, 1, 1, 0, 0, 0, 0, 0]], [[0, 0, 0, 1, 1, 0, 0, 0]]], bool)
    assert agreement(masks, components).tolist() == [pytest.approx(3 / 4), pytest.approx(1 / 5)]
    assert united(masks, components, teacher, rules()).tolist() == [[0, 0, 0, 1, 1, 255, 255, 255]]
    kept = united(masks, components, teacher, rules(min_agreement=0.5))
    assert kept.tolist() == [[0, 0, 0, 255, 255, 255, 255, 255]]
    assert united(masks, components, teacher, rules(min_agreement=0.75)).tolist() == kept.tolist()
    assert united(masks, components, teacher, rules(min_agreement=0.76)).tolist() == teacher.tolist(), "none is left"


def test_without_components_the_teachers_answer_stays_and_sam_is_not_asked() -> None:
    sam = Answers(np.zeros((0, 4, 4), bool))
    teacher = np.arange(16, dtype=np.uint8).reshape(4, 4) % 3
    made = redraw(np.zeros((4, 4, 3), np.uint8), teacher, sam, rules(min_area=0.5), np.random.default_rng(0))
    assert (made.channels == teacher).all() and made.prompts is None and not sam.asked


def test_sam_is_asked_once_with_a_prompt_a_component_and_a_perfect_one_changes_nothing() -> None:
    teacher = np.zeros((12, 12), np.uint8)
    teacher[2:8, 3:9] = 1
    teacher[:, 11] = 255  # padding

    def perfect(image: np.ndarray, prompts: MaskPrompts) -> np.ndarray:
        return np.stack([teacher == teacher[int(y), int(x)] for (x, y) in prompts.points[:, 0]])

    sam = Answers(perfect)
    made = redraw(np.zeros((12, 12, 3), np.uint8), teacher, sam, rules(), np.random.default_rng(0))
    assert [len(prompts) for prompts in sam.asked] == [2] and sam.asked[0].point_labels is None
    assert (made.channels == teacher).all()
    shown = columns([made])
    assert {title: stack.shape for title, stack in shown.items()} == {
        "components": (1, 12, 12, 3),
        "SAM": (1, 12, 12, 3),
    }
    assert (shown["components"][0] == 255).all(axis=-1).sum() == 10 and (shown["SAM"][0, :, 11] == 0).all()


# negatives


def test_negatives_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(3, 4, 5, 6))).float()
    channels = torch.from_numpy(rng.choice([0, 2, 254, 255], size=(3, 5, 6)))
    channels[1] = torch.from_numpy(rng.choice([0, 1, 2, 3, 254], size=(5, 6)))  # all classes are there
    channels[2] = 254
    weights = torch.from_numpy(rng.random((3, 5, 6), dtype=np.float32))
    before = channels.clone()
    before[0][channels[0] == 2] = 255  # class 2 was pasted into the first crop: its own picture has no mask of it
    total, number = 0.0, 0
    for crop, row, column in np.ndindex(3, 5, 6):
        present = [c for c in range(4) if (before[crop] == c).any()]
        if channels[crop, row, column] == 254 and len(present) < 4:
            probability = logits[crop, :, row, column].softmax(0)
            total -= float(weights[crop, row, column] * torch.log(1 - probability[present].sum()))
            number += 1
    logits.requires_grad_()
    loss, counted = none_of_the_present(logits, channels, weights, present_in(before, 4))
    assert int(counted) == number > 30 and loss.item() == pytest.approx(total, rel=1e-4, abs=1e-4)
    loss.backward()
    assert torch.isfinite(logits.grad).all() and (logits.grad[1] == 0).all()


def test_labels_of_a_picture_are_made_once() -> None:
    made = []

    def make(source: int, row: int) -> tuple[np.ndarray, np.ndarray]:
        made.append((source, row))
        return np.full((3, 5), row, np.uint8), np.full((3, 5), 200 + source, np.uint8)

    labels = OncePerPicture(make)
    for place in ((0, 1), (1, 1), (0, 1), (0, 2), (1, 1)):
        channels, sureness = labels(*place)
        assert channels.shape == (3, 5) and (channels == place[1]).all() and (sureness == 200 + place[0]).all()
    assert made == [(0, 1), (1, 1), (0, 2)]


def test_every_crop_of_every_step_draws_points_of_its_own() -> None:
    """Two crops of the same answer are asked about at different places, the same crop of the same step at the same."""
    method = Clouds.__new__(Clouds)
    sam = Answers(lambda image, prompts: np.ones((len(prompts.points), *image.shape[:2]), bool))
    method._decoder, method._rules = sam, rules()  # type: ignore[assignment]
    method._settings = SimpleNamespace(seed=3)  # type: ignore[assignment]
    views: Any = SimpleNamespace(teacher=torch.zeros(2, 3, 24, 24, dtype=torch.uint8))
    channels = np.ones((2, 24, 24), np.uint8)
    for step in (4, 4, 5):
        method._redrawn(views, channels, step)
    first, second, again, _, other, _ = (prompts.points for prompts in sam.asked)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second) and not np.array_equal(first, other)
