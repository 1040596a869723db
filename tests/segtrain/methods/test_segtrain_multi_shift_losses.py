"""The loss terms, margins and selection of MultiShiftSeg against loops over single pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from segtrain.config import checked
from segtrain.errors import ConfigError
from segtrain.losses import kept_pixels, small_loss
from segtrain.methods.multi_shift.config import Config
from segtrain.methods.multi_shift.relative_contrast import Half, Margins, pooled_contrast, relative_contrast
from segtrain.methods.multi_shift.uncertainty import Levels, margins_of

MARGINS = Margins(0.9, 0.6, 0.3)


def halves(seed: int, kinds: tuple[int, ...] = (0, 3, 254, 255)) -> tuple[Half, Half]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(2):
        targets = torch.from_numpy(rng.choice(kinds, size=(2, 5, 7)).astype(np.uint8))
        made.append(Half(torch.from_numpy(rng.normal(size=(2, 5, 7))).requires_grad_(), targets))
    return made[0], made[1]


def constant(original: float, augmented: float, unknown: float) -> tuple[Half, Half]:
    """One value for each kind of pixels, so that no pairing matters; the object is in the augmented half."""
    targets = torch.zeros(1, 4, 4, dtype=torch.uint8)
    with_object = targets.clone()
    with_object[0, 0] = 254
    u = torch.full((1, 4, 4), augmented)
    u[0, 0] = unknown
    return Half(torch.full((1, 4, 4), original), targets), Half(u, with_object)


@pytest.mark.parametrize("seed", range(4))
def test_the_third_hinge_pixel_by_pixel(seed: int) -> None:
    original, augmented = halves(seed)
    terms = relative_contrast(original, augmented, MARGINS)
    values = []
    for place in np.ndindex(2, 5, 7):
        if original.targets[place] < 254 and augmented.targets[place] < 254:
            values.append(max(0.0, (augmented.uncertainty[place] - original.uncertainty[place]).item() - 0.3))
    assert terms["augmented_over_original"].item() == pytest.approx(sum(values) / len(values))


@pytest.mark.parametrize("seed", range(4))
def test_the_first_two_hinges_are_means_over_random_pairs(seed: int) -> None:
    """Each n pixels of a kind against n unknown ones, which are those of both halves; the mean over many drawings is
    the mean over all pairs."""
    original, augmented = halves(seed)
    lists: dict[str, list[float]] = {"i": [], "c": [], "o": []}
    for name, half in (("i", original), ("c", augmented)):
        for place in np.ndindex(2, 5, 7):
            value = half.uncertainty[place].item()
            if half.targets[place] == 254:
                lists["o"].append(value)
            elif half.targets[place] < 254:
                lists[name].append(value)
    torch.manual_seed(0)
    drawn = [relative_contrast(original, augmented, MARGINS) for _ in range(1500)]
    for name, kind, margin in (("unknown_over_original", "i", 0.9), ("unknown_over_augmented", "c", 0.6)):
        expected = np.mean([[max(0.0, known + margin - o) for o in lists["o"]] for known in lists[kind]])
        assert np.mean([terms[name].item() for terms in drawn]) == pytest.approx(expected, rel=0.03)
        assert len({terms[name].item() for terms in drawn}) > 1000
    torch.manual_seed(3)
    once = relative_contrast(original, augmented, MARGINS)
    torch.manual_seed(3)
    assert once == relative_contrast(original, augmented, MARGINS)


def test_pairs_are_without_repetition_and_as_many_as_the_smallest_kind() -> None:
    """Two unknown pixels: each is in one pair of each hinge, so the terms are a mean of two values at the most."""
    targets = torch.zeros(1, 4, 4, dtype=torch.uint8)
    with_object = targets.clone()
    with_object[0, 0, :2] = 254
    u = torch.zeros(1, 4, 4)
    u[0, 0, 0], u[0, 0, 1] = 0.1, 0.4
    terms = relative_contrast(Half(torch.zeros(1, 4, 4), targets), Half(u, with_object), Margins(1.0, 0.5, 0.5))
    assert terms["unknown_over_original"].item() == pytest.approx((0.9 + 0.6) / 2)
    assert terms["unknown_over_augmented"].item() == pytest.approx((0.4 + 0.1) / 2)


def test_the_sign_of_the_third_margin_is_that_of_the_released_code() -> None:
    """Weather may lie up to l3 above day: that costs nothing. As equation 4 is printed, it would cost 2 l3."""
    terms = relative_contrast(*constant(original=0.0, augmented=0.3, unknown=0.9), MARGINS)
    assert terms["augmented_over_original"].item() == 0
    assert [round(term.item(), 6) for term in terms.values()] == [0, 0, 0], "l1 = l2 + l3: all three are 0 together"
    above = relative_contrast(*constant(original=0.0, augmented=0.5, unknown=0.9), MARGINS)
    assert above["augmented_over_original"].item() == pytest.approx(0.2)
    assert above["unknown_over_augmented"].item() == pytest.approx(0.2)
    below = relative_contrast(*constant(original=0.0, augmented=-5.0, unknown=0.9), MARGINS)
    assert below["augmented_over_original"].item() == 0, "less uncertain weather costs nothing"


def test_gradients_pull_unknown_up_and_known_down() -> None:
    original, augmented = halves(1)
    sum(relative_contrast(original, augmented, Margins(9.0, 6.0, 3.0)).values()).backward()  # type: ignore[union-attr]
    for half in (original, augmented):
        gradient = half.uncertainty.grad
        assert gradient is not None
        assert (gradient[half.unknown] <= 0).all() and gradient[half.unknown].sum() < 0
        assert not gradient[half.targets == 255].any()
    assert augmented.uncertainty.grad is not None and augmented.uncertainty.grad[augmented.known].sum() > 0


@pytest.mark.parametrize(
    ("kinds", "nonzero"),
    [
        ((0, 255), {"augmented_over_original"}),
        ((254,), set()),
        ((255,), set()),
        ((0, 254), {"unknown_over_original", "unknown_over_augmented", "augmented_over_original"}),
    ],
)
def test_a_hinge_without_pixels_is_zero_with_a_gradient_and_no_nan(kinds: tuple[int, ...], nonzero: set[str]) -> None:
    original, augmented = halves(2, kinds)
    terms = relative_contrast(original, augmented, MARGINS)
    assert {name for name, term in terms.items() if term.item() != 0} == nonzero
    sum(terms.values()).backward()  # type: ignore[union-attr]
    for half in (original, augmented):
        assert half.uncertainty.grad is not None and torch.isfinite(half.uncertainty.grad).all()
    assert pooled_contrast(halves(2, (0,)), 1.0)["unknown_over_known"].item() == 0


def test_the_first_hinge_does_without_augmented_known_pixels() -> None:
    original, augmented = halves(3)
    only_objects = Half(augmented.uncertainty, torch.full_like(augmented.targets, 254))
    terms = relative_contrast(original, only_objects, Margins(9.0, 6.0, 3.0))
    assert terms["unknown_over_original"].item() > 0 == terms["unknown_over_augmented"].item()


def test_the_old_loss_takes_weather_for_known() -> None:
    original, augmented = constant(original=0.0, augmented=1.0, unknown=2.0)
    both = pooled_contrast((original, augmented), 10.0)["unknown_over_known"].item()
    torch.manual_seed(0)
    values = {pooled_contrast((original, augmented), 10.0)["unknown_over_known"].item() for _ in range(50)}
    assert 8 <= both <= 9 and len(values) > 1, "pairs are of both kinds"
    assert pooled_contrast((original,), 10.0)["unknown_over_known"].item() == 0, "no object in the originals"


def test_no_loss_writes_into_what_it_is_given() -> None:
    original, augmented = halves(5)
    before = [half.targets.clone() for half in (original, augmented)]
    relative_contrast(original, augmented, MARGINS)
    pooled_contrast((original, augmented), 1.0)
    losses = torch.rand(2, 5, 7)
    copied = losses.clone()
    small_loss(losses, augmented.known, 0.8)
    assert torch.equal(losses, copied)
    assert all(torch.equal(half.targets, old) for half, old in zip((original, augmented), before, strict=True))


# selection


@pytest.mark.parametrize("keep", [0.0, 0.29, 0.5, 0.7, 0.8, 1.0])
def test_the_k_smallest_of_the_pool_are_kept(keep: float) -> None:
    rng = np.random.default_rng(0)
    losses = rng.permutation(2 * 10 * 10).reshape(2, 10, 10).astype(np.float32)
    valid = np.ones(losses.shape, bool)
    valid[0, :5, :] = valid[1, 5:, :] = False
    pool = sorted(float(value) for value, use in zip(losses.ravel(), valid.ravel(), strict=True) if use)
    count = int(str(keep * 10000).split(".")[0]) * len(pool) // 10000
    kept = kept_pixels(torch.from_numpy(losses), torch.from_numpy(valid), keep)
    assert sorted(losses.ravel()[kept.numpy()].tolist()) == pool[:count] and len(kept) == count
    expected = sum(pool[:count]) / max(1, count)
    assert small_loss(torch.from_numpy(losses), torch.from_numpy(valid), keep).item() == pytest.approx(expected)


def test_the_pool_is_all_pictures_and_not_each() -> None:
    """The second picture is wrong altogether: half of all is kept, nothing of it."""
    losses = torch.cat([torch.full((1, 4, 4), 0.1), torch.full((1, 4, 4), 9.0)])
    kept = kept_pixels(losses, torch.ones_like(losses, dtype=torch.bool), 0.5)
    assert sorted(kept.tolist()) == list(range(16))


def test_only_kept_pixels_teach() -> None:
    losses = torch.tensor([[[1.0, 2.0, 3.0, 4.0, 5.0]]], requires_grad=True)
    small_loss(losses, torch.tensor([[[True, True, True, True, True]]]), 0.8).backward()
    assert losses.grad is not None and losses.grad.flatten().tolist() == [0.25, 0.25, 0.25, 0.25, 0.0]
    assert small_loss(losses, torch.zeros(1, 1, 5, dtype=torch.bool), 0.8).item() == 0


# margins


def test_measured_margins_are_the_gaps() -> None:
    margins = margins_of(Levels(original=-10.0, augmented=-8.5, unknown=-4.0, spread=1.0))
    assert margins == Margins(6.0, 4.5, 1.5)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (Levels(-10.0, -11.0, -4.0, 1.0), (6.0, 6.0, 0.0)),  # weather below day
        (Levels(-10.0, -2.0, -4.0, 1.0), (6.0, 3.0, 3.0)),  # weather above objects
        (Levels(-10.0, -10.0, -12.0, 2.0), (2.0, 2.0, 0.0)),  # objects below known
    ],
)
def test_measured_margins_stay_within_bounds(levels: Levels, expected: tuple[float, float, float]) -> None:
    margins = margins_of(levels).as_tuple()
    assert margins == pytest.approx(expected) and margins[0] == pytest.approx(margins[1] + margins[2])


def test_margins_of_a_constant_network_are_refused() -> None:
    with pytest.raises(ConfigError, match="all pixels of the base model are as uncertain: give --margins"):
        margins_of(Levels(1.0, 1.0, 1.0, 0.0))


@pytest.mark.parametrize("margins", ["10,5,5", "0.7,0.5,0.2", "1,1,0"])
def test_margins_of_a_user(margins: str) -> None:
    config = checked(Config, {"data": ["x"], "out": "y", "base": "z", "margins": margins})
    assert config.fixed_margins is not None and math.isclose(config.fixed_margins[0], sum(config.fixed_margins[1:]))


def test_stage_1_takes_as_many_epochs_as_the_released_code_has_for_that_model() -> None:
    values = {"data": ["x"], "out": "y", "base": "z", "steps": 50}
    assert [checked(Config, values).stage1_steps(is_mask_model) for is_mask_model in (False, True)] == [9, 4]
    chosen = checked(Config, {**values, "stage1_share": 0.5})
    assert [chosen.stage1_steps(is_mask_model) for is_mask_model in (False, True)] == [25, 25]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"margins": "10,5,4"}, "margins: '10,5,4': l1 must be l2 \\+ l3, here 9"),
        ({"margins": "10,15,-5"}, "none is negative"),
        ({"margins": "nan,5,5"}, "none is negative"),
        ({"margins": "10,5"}, "neither auto nor three numbers"),
        ({"margins": "large"}, "neither auto nor three numbers"),
        ({"learn_head": False}, "with --no-learn-head set --stage1-share 0"),
        ({"object_classes": ["cow"]}, "object_classes are those of --objects"),
        ({"object_scale_min": 1.5}, "object_scale_min 1.5 is above object_scale_max 1.0"),
        ({"keep": 1.2}, "keep: Input should be less than or equal to 1"),
        ({"keep": 0}, "keep: Input should be greater than 0"),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(values: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        checked(Config, {"data": ["x"], "out": "y", "base": "z", **values})
    assert "\n" not in str(caught.value)
