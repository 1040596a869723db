"""The proposer that is trained on the support set: what it learns, from whom, and that it is the same for everybody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from segkit.labels import IGNORE
from synthgen.backends import load
from synthgen.errors import ModelError
from synthgen.models import Labelled, ProposalRequest, Prototypes, SupportShot
from synthgen.models.support_training import _tensors, candidate_loss, crop
from synthgen.settings import Execution

SIZE = 32
NO_PROTOTYPES = Prototypes((), np.zeros((0, 1), np.float32))
SMALL = {"steps": 40, "batch_size": 4, "crop_px": 32, "pretrained": True, "learning_rate": 3e-3}


def picture(rng: np.random.Generator, class_id: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright square of class 3, or a bright disc of class 7, on a dark ground that is class 1."""
    mask = np.ones((SIZE, SIZE), np.uint8)
    row, column = rng.integers(6, SIZE - 6, 2)
    across = np.abs(np.arange(SIZE)[:, None] - row), np.abs(np.arange(SIZE)[None] - column)
    inside = np.maximum(*across) <= 6 if class_id == 3 else across[0] ** 2 + across[1] ** 2 <= 49
    mask[inside] = class_id
    image = np.where(inside[..., None], [210, 190, 90], [40, 60, 50]) + rng.normal(0, 12, (SIZE, SIZE, 3))
    return np.clip(image, 0, 255).astype(np.uint8), mask


def shots(per_class: int) -> list[SupportShot]:
    rng = np.random.default_rng(0)
    return [SupportShot(*picture(rng, k), k) for k in (3, 7) for _ in range(per_class)]


def proposer(per_class: int = 4, **options: Any) -> Any:
    made = load("proposer", {"name": "support_segmenter", **SMALL, **options}, Execution(device="cpu"))
    made.prepare(shots(per_class), NO_PROTOTYPES, 1)
    return made


def request(image: np.ndarray, *candidates: int) -> ProposalRequest:
    return ProposalRequest(image, np.zeros((1, 1, 1), np.float32), candidates, "")


@pytest.fixture(scope="module")
def learnt() -> bytes:
    return bytes(proposer().learn([proposer().support], lambda step: None))


def masks(learnt: bytes, images: Sequence[np.ndarray], **options: Any) -> list[np.ndarray]:
    made = proposer(**options)
    made.take(learnt)
    return list(made.propose([request(image, 3, 1) for image in images]))


def test_it_finds_the_object_of_the_prompts_class(learnt: bytes) -> None:
    rng = np.random.default_rng(5)
    pairs = [picture(rng, 3) for _ in range(6)]
    for mask, (_, truth) in zip(masks(learnt, [image for image, _ in pairs]), pairs, strict=True):
        found, wanted = mask == 3, truth == 3
        assert set(np.unique(mask)) <= {1, 3}
        assert (found & wanted).sum() / (found | wanted).sum() > 0.6


def test_the_same_support_gives_the_same_weights_whatever_the_threads(learnt: bytes) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1 if before > 1 else 3)
    try:
        again = proposer()
        assert again.learn([again.support], lambda step: None) == learnt
        assert torch.get_num_threads() == (1 if before > 1 else 3)
    finally:
        torch.set_num_threads(before)


def test_a_mask_does_not_depend_on_its_neighbours(learnt: bytes) -> None:
    rng = np.random.default_rng(6)
    images = [picture(rng, k)[0] for k in (3, 7, 3)]
    together = masks(learnt, images)
    alone = [masks(learnt, [image])[0] for image in images]
    assert all(np.array_equal(a, b) for a, b in zip(together, alone, strict=True))


def test_flips_make_the_mask_of_a_mirror_image_the_mirror_image_of_the_mask(learnt: bytes) -> None:
    image, _ = picture(np.random.default_rng(7), 3)
    straight, mirrored = masks(learnt, [image, np.ascontiguousarray(image[:, ::-1])])
    assert (straight == mirrored[:, ::-1]).mean() > 0.999  # a sum in another order rounds otherwise


def test_masks_have_the_size_of_the_image_whatever_size_the_network_sees(learnt: bytes) -> None:
    image, _ = picture(np.random.default_rng(8), 3)
    wide = np.ascontiguousarray(np.concatenate([image, image[:, :17]], axis=1))
    for longest in (0, 24, 96):
        assert masks(learnt, [wide], longest_side_px=longest)[0].shape == wide.shape[:2]


def test_what_no_support_image_shows_is_never_proposed(learnt: bytes) -> None:
    made = proposer()
    made.take(learnt)
    image, _ = picture(np.random.default_rng(9), 3)
    assert (made.propose([request(image, 200)])[0] == IGNORE).all()
    assert (made.propose([request(image, 200, 7)])[0] == 7).all()


def test_a_few_shots_are_labelled_by_prototypes() -> None:
    made = load("proposer", {"name": "support_segmenter", **SMALL}, Execution(device="cpu"))
    made.prepare(shots(2), Prototypes((3, 1), np.eye(2, dtype=np.float32)), 1)
    assert not made.learns
    grid = np.zeros((1, 2, 2), np.float32)
    grid[0, 0, 0] = grid[0, 1, 1] = 1  # the left cell is class 3, the right one the background
    (mask,) = made.propose([ProposalRequest(np.zeros((8, 8, 3), np.uint8), grid, (3, 1), "")])
    assert (mask[:, :4] == 3).all()
    assert (mask[:, 4:] == 1).all()


def test_whoever_asks_without_learning_gets_a_network_that_has_learnt(learnt: bytes) -> None:
    image, _ = picture(np.random.default_rng(4), 3)
    assert np.array_equal(proposer().propose([request(image, 3, 1)])[0], masks(learnt, [image])[0])


def test_damaged_weights_are_told(learnt: bytes) -> None:
    for damaged in (learnt[:-10], b"no weights", b""):
        with pytest.raises(ModelError, match="support segmenter"):
            proposer().take(damaged)


def test_the_loss_is_that_of_the_classes_that_a_crop_shows_and_the_background() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 5, 6)
    targets = torch.tensor(np.random.default_rng(0).choice([-1, 0, 2, 3], (2, 5, 6)))
    targets[1][targets[1] == 3] = 2
    weights = torch.rand(2, 5, 6)
    total, known = 0.0, 0
    for n in range(2):
        shown = sorted({0, *targets[n][targets[n] >= 0].tolist()})
        for row in range(5):
            for column in range(6):
                if (k := int(targets[n, row, column])) >= 0:
                    chances = functional.softmax(logits[n, shown, row, column], dim=0)
                    total -= float(weights[n, row, column]) * float(torch.log(chances[shown.index(k)]))
                    known += 1
    assert float(candidate_loss(logits, targets, weights, 0)) == pytest.approx(total / known, rel=1e-5)
    every = functional.cross_entropy(logits, targets, ignore_index=-1, reduction="none")
    assert float(candidate_loss(logits, targets, weights, None)) == pytest.approx(
        float((every * weights).sum()) / known, rel=1e-5
    )


def test_no_labelled_pixel_is_no_loss() -> None:
    nothing = torch.full((1, 4, 4), -1)
    assert float(candidate_loss(torch.randn(1, 2, 4, 4), nothing, torch.ones(1, 4, 4), 0)) == 0


@pytest.mark.parametrize("background", [0, None])
def test_a_crop_shows_what_its_samples_show(background: int | None) -> None:
    rng = np.random.default_rng(1)
    samples = []
    for k in (3, 7):
        image, mask = picture(rng, k)
        mask[:3] = IGNORE
        samples.append(_tensors(Labelled(image, mask, np.full_like(mask, 51)), (1, 3, 7)))
    seen: set[int] = set()
    for seed in range(20):
        image, target, weight = crop(samples, np.random.default_rng(seed), 64, background)
        again = crop(samples, np.random.default_rng(seed), 64, background)
        assert image.shape == (3, 64, 64)
        assert target.shape == weight.shape == (64, 64)
        assert 0 <= float(image.min()) <= float(image.max()) <= 255
        assert torch.allclose(weight, torch.tensor(0.2))
        assert all(torch.equal(a, b) for a, b in zip((image, target, weight), again, strict=True))
        seen |= set(target.unique().tolist())
    assert seen == {-1, 0, 1, 2}
