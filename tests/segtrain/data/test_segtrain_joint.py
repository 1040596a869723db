"""Joint batches: what is in them, where every pixel of a student's view is from, and that nothing is remembered."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies
from torchvision.transforms.v2 import functional

from segtrain.data.batches import batches
from segtrain.data.joint import (
    LABELLED,
    OWN,
    UNLABELLED,
    JointBatch,
    JointBatches,
    ViewSettings,
    class_mix_mask,
    cut_mix_box,
    share_by_repeat,
)
from segtrain.data.mixture import open_sources
from segtrain.data.strong import StrongView
from segtrain.data.unlabelled import open_unlabelled, open_with_masks
from segtrain.errors import ConfigError


@pytest.fixture
def joint(settings, tmp_path: Path, write_folder, pairs) -> Callable[..., JointBatches]:
    """Four labelled pictures of 64 x 64 (black and white squares) and six unlabelled ones of one grey each."""
    ours = write_folder(tmp_path / "ours", pairs(4, (64, 64)))
    theirs = write_folder(tmp_path / "theirs", [(np.full_like(i, 40 + 20 * n), m) for n, (i, m) in enumerate(pairs(6))])

    def make(
        share: float = 0.5, first: int = 0, views: ViewSettings | None = None, masks: bool = False, **changes: Any
    ) -> JointBatches:
        config = settings(**{"data": [str(ours)], "steps": 9, "batch_size": 8, "jitter": 0, **changes})
        labelled, space = open_sources(config)
        unlabelled = [(open_with_masks if masks else open_unlabelled)(str(theirs), space, config.crop_px)]
        return JointBatches(
            labelled,
            unlabelled,
            space,
            config,
            views or ViewSettings(),
            unlabelled_share=share,
            first_joint_step=first,
            masks=masks,
        )

    return make


def all_of(batch: JointBatch) -> list[torch.Tensor]:
    views = batch.views
    assert views is not None
    return [batch.images, batch.targets, views.teacher, views.student, views.inside, views.origin, views.pasted]


def test_masks_of_unlabelled_pictures_are_cropped_with_them_if_they_are_asked_for(joint) -> None:
    for step in range(4):
        batch = joint(masks=True).batch(step)
        plain, told = joint().batch(step).views, batch.views
        assert torch.equal(plain.teacher, told.teacher) and torch.equal(plain.student, told.student)
        assert (plain.said == 255).all()
        square = np.zeros((32, 32), np.uint8)
        square[8:24, 8:24] = 1  # the channel of class 5
        for draft, said in zip(batch.drafts, told.said, strict=True):
            assert torch.equal(said, joint().geometry(draft, square.shape).map(square, 255))
        assert (told.said == 1).any() and (told.said == 0).any()
        assert (told.said[told.inside == 0] == 255).all()


@pytest.mark.parametrize(("share", "expected"), [(0.5, 4.0), (0.25, 2.0), (0.3, 2.4)])
def test_the_mix_keeps_its_share_in_every_step_and_labelled_come_first(joint, share: float, expected: float) -> None:
    data, counts = joint(share, first=3), []
    for step in range(9):
        batch = data.batch(step)
        unlabelled = 0 if batch.views is None else len(batch.views.teacher)
        assert len(batch.images) + unlabelled == 8 == len(batch.sources) == len(batch.rows)
        assert batch.sources.tolist() == [0] * len(batch.images) + [1] * unlabelled
        assert len(batch.drafts) == unlabelled
        counts.append(unlabelled)
    assert counts[:3] == [0, 0, 0] and all(abs(count - expected) <= 1 for count in counts[3:])
    assert sum(counts) == pytest.approx(6 * expected, abs=1)
    assert data.planned_counts == [72 - sum(counts), sum(counts)]


def test_every_picture_comes_once_an_epoch(joint) -> None:
    rows = [row for step in range(9) for batch in [joint().batch(step)] for row in batch.rows[len(batch.images) :]]
    assert len(rows) == 36
    for start in range(0, 36, 6):
        assert sorted(rows[start : start + 6]) == list(range(6))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_a_function_of_seed_and_step(joint, workers: int) -> None:
    views = ViewSettings("strong", cut_mix=0.5, class_mix=0.5)
    late = list(batches(joint(views=views), 6, workers))
    for step, batch in enumerate(late, 6):
        assert isinstance(batch, JointBatch)
        again = joint(views=views).batch(step)
        assert all(torch.equal(one, other) for one, other in zip(all_of(batch), all_of(again), strict=True))
    other = joint(views=views, seed=1).batch(6)
    assert not torch.equal(other.views.student, joint(views=views).batch(6).views.student)


def test_joint_batches_can_be_sent_to_a_process_that_starts_empty(joint) -> None:
    data = joint(views=ViewSettings("strong", cut_mix=0.5, class_mix=0.5))
    first, again = data.batch(3), pickle.loads(pickle.dumps(data)).batch(3)
    assert all(torch.equal(one, other) for one, other in zip(all_of(first), all_of(again), strict=True))


def test_without_mixing_and_colours_both_views_are_the_same_and_padding_is_told(joint) -> None:
    views = joint(crop_px=64, scale_min=0.8, scale_max=0.8).batch(0).views  # pictures of 32 px in crops of 64
    assert torch.equal(views.teacher, views.student) and (views.origin == OWN).all() and (views.pasted == 255).all()
    assert views.inside.float().mean().item() == pytest.approx((26 / 64) ** 2, rel=0.05)
    assert (views.teacher[:, 0][views.inside == 0] == 0).all() and (views.teacher[:, 0][views.inside == 1] >= 40).all()


def test_geometry_is_that_of_the_views(joint) -> None:
    data = joint()
    batch = data.batch(2)
    for place, draft in enumerate(batch.drafts):
        image = data.picture(draft.source, draft.row)
        assert torch.equal(data.geometry(draft, image.shape).picture(image), batch.views.teacher[place])


def test_cut_mix_takes_the_box_from_the_next_crop(joint) -> None:
    views = joint(views=ViewSettings(cut_mix=1.0)).batch(0).views
    assert (views.origin == UNLABELLED).flatten(1).any(dim=1).all()
    for place in range(len(views.teacher)):
        box = views.origin[place] == UNLABELLED
        rows, columns = np.nonzero(box.numpy())
        assert box.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1), "a rectangle"
        giver = int(views.partner[place])
        assert giver == (place + 1) % len(views.teacher)
        assert torch.equal(views.student[place][:, box], views.teacher[giver][:, box])
        assert torch.equal(views.student[place][:, ~box], views.teacher[place][:, ~box])
    assert (joint(views=ViewSettings(cut_mix=0.0)).batch(0).views.origin == OWN).all()


def test_class_mix_pastes_whole_classes_with_their_labels(joint) -> None:
    batch = joint(views=ViewSettings(class_mix=1.0), flip=0).batch(0)
    views = batch.views
    for place in range(len(views.teacher)):
        giver = place % len(batch.images)
        target, mask = batch.targets[giver], views.origin[place] == LABELLED
        classes = target[mask].unique().tolist()
        present = [channel for channel in target.unique().tolist() if channel < 254]
        assert len(classes) == (len(present) + 1) // 2
        assert torch.equal(mask, torch.isin(target, torch.tensor(classes, dtype=torch.uint8)))
        assert torch.equal(views.pasted[place][mask], target[mask]) and (views.pasted[place][~mask] == 255).all()
        assert torch.equal(views.student[place][:, mask], batch.images[giver][:, mask])
        assert torch.equal(views.student[place][:, ~mask], views.teacher[place][:, ~mask])


@given(strategies.integers(0, 2**31), strategies.lists(strategies.sampled_from([0, 1, 2, 3, 254, 255]), min_size=1))
def test_class_mix_takes_half_of_the_classes_rounded_up_and_no_void(seed: int, values: list[int]) -> None:
    target = torch.tensor([values], dtype=torch.uint8)
    chosen = class_mix_mask(target, np.random.default_rng(seed))
    present, taken = {v for v in values if v < 254}, set(target[chosen].tolist())
    assert taken <= present and len(taken) == (len(present) + 1) // 2
    assert {v for v in values if v not in taken} == set(target[~chosen].tolist())


@given(strategies.integers(0, 2**31), strategies.sampled_from([32, 64, 321]))
def test_a_box_lies_inside_and_is_neither_tiny_nor_all(seed: int, side: int) -> None:
    rows, columns = cut_mix_box(side, np.random.default_rng(seed))
    assert 0 <= rows.start < rows.stop <= side and 0 <= columns.start < columns.stop <= side
    height, width = rows.stop - rows.start, columns.stop - columns.start
    assert height * width <= 0.4 * side * side and (height + 1) * (width + 1) >= 0.02 * side * side


def test_the_repeat_factor_counts_unlabelled_pictures_so_often(joint) -> None:
    data = joint()
    labelled, unlabelled = data._sources[:1], data._sources[1:]  # 4 and 6 pictures
    assert share_by_repeat(labelled, unlabelled, 1.0) == pytest.approx(0.6)
    assert share_by_repeat(labelled, unlabelled, 2.0) == pytest.approx(12 / 16)
    with pytest.raises(ConfigError, match=r"batch_size 8: 90.0% of it are unlabelled crops, which leaves no labelled"):
        joint(0.9)
    assert joint(0.875).batch(0).views is not None


# strong view


def test_the_strong_view_changes_colours_and_no_place() -> None:
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (3, 24, 20), dtype=np.uint8))
    pixels[:, :, 10:] = 0
    kinds = {
        kind: [StrongView.draw(kind, np.random.default_rng(n)) for n in range(400)]
        for kind in ("same", "photometric", "strong")
    }
    assert all(torch.equal(view.apply(pixels), pixels) for view in kinds["same"][:20])
    assert all(not view.grey and not view.sigma_px for view in kinds["photometric"])
    assert [view.colours for view in kinds["photometric"]] == [view.colours for view in kinds["strong"]]
    assert np.mean([view.grey for view in kinds["strong"]]) == pytest.approx(0.2, abs=0.06)
    assert np.mean([view.sigma_px > 0 for view in kinds["strong"]]) == pytest.approx(0.5, abs=0.08)
    assert all(view.sigma_px == 0 or 0.1 <= view.sigma_px <= 2 for view in kinds["strong"])
    for view in kinds["strong"][:60]:
        made = view.apply(pixels)
        assert made.shape == pixels.shape and made.dtype == torch.uint8
        if view.grey:
            assert (made == made[:1]).all()


def test_blur_is_torchvisions_and_works_on_small_crops() -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8))
    blurred = StrongView(sigma_px=1.0).apply(pixels)
    assert torch.equal(blurred, functional.gaussian_blur_image(pixels, [7, 7], [1.0, 1.0]))
    assert StrongView(sigma_px=2.0).apply(pixels[:, :3, :3]).shape == (3, 3, 3)
