"""GAP's bank and loss against loops over tokens, one cell at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from segtrain import bands
from segtrain.methods.flex_seg.gap import Projector, PrototypeBank, boundary_cells, choose_tokens

CLASSES, RINGS, WIDTH = 4, 3, 5


def tokens_of(seed: int, number: int, cells: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    vectors = torch.from_numpy(rng.normal(size=(number, WIDTH))).float()
    return torch.nn.functional.normalize(vectors, dim=1), torch.from_numpy(rng.choice(cells, size=number))


def bank(momentum: float = 0.9) -> PrototypeBank:
    return PrototypeBank(CLASSES, RINGS, WIDTH, momentum, torch.device("cpu"))


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def test_the_bank_against_a_loop_over_cells() -> None:
    ours, slow, counts = bank(), {}, dict.fromkeys(range(12), 0)
    for seed, cells in enumerate(([0, 1, 5], [1, 5, 7], [0, 7, 11], [5])):
        tokens, of = tokens_of(seed, 40, cells)
        ours.update(tokens, of)
        for cell in set(of.tolist()):
            mean = tokens[of == cell].numpy().mean(axis=0)
            slow[cell] = unit(0.9 * slow[cell] + 0.1 * mean) if cell in slow else unit(mean)
            counts[cell] += 1
    assert ours.counts.tolist() == list(counts.values())
    for cell in range(12):
        expected = slow.get(cell, np.zeros(WIDTH))
        assert ours.prototypes[cell].numpy() == pytest.approx(expected, abs=1e-6)
    assert set(ours.state()) == {"prototypes", "counts"}
    assert ours.state()["prototypes"].shape == (CLASSES, RINGS, WIDTH)
    assert ours.empty_classes() == [
        channel for channel in range(4) if not any(counts[3 * channel + g] for g in range(3))
    ]
    again = bank()
    again.load_state(ours.state())
    assert torch.equal(again.prototypes, ours.prototypes) and torch.equal(again.counts, ours.counts)


def test_the_loss_against_a_loop_over_tokens() -> None:
    ours = bank()
    for seed, cells in enumerate(([0, 1, 5], [1, 5, 7])):
        ours.update(*tokens_of(seed, 40, cells))
    tokens, cells = tokens_of(9, 30, [0, 1, 5, 7, 10])
    assert (cells == 10).any(), "a cell without a prototype must be among them"
    weights = ours.weights(0.5, 0.5, 3.0)
    seen, total, number = [0, 1, 5, 7], 0.0, 0
    for token, cell in zip(tokens.numpy(), cells.tolist(), strict=True):
        if cell in seen:
            scores = {c: math.exp(float(token @ ours.prototypes[c].numpy()) / 0.07) for c in seen}
            total -= float(weights[cell]) * math.log(scores[cell] / sum(scores.values()))
            number += 1
    assert ours.loss(tokens, cells, weights, 0.07).item() == pytest.approx(total / number, rel=1e-4)


def test_rare_cells_weigh_more_within_limits() -> None:
    ours = bank()
    ours.counts = torch.tensor([0, 1, 9, 99, 1000, 0, 0, 0, 0, 0, 0, 0])
    mean = (1 + 9 + 99 + 1000) / 4
    expected = [min(3.0, max(0.5, (mean / (n + 1)) ** 0.5)) for n in ours.counts.tolist()]
    assert ours.weights(0.5, 0.5, 3.0).tolist() == pytest.approx(expected)
    assert expected[3] == pytest.approx(1.665, abs=1e-3) and expected[4] == pytest.approx(0.526, abs=1e-3)


def test_no_gradient_reaches_the_bank_and_some_reaches_the_tokens() -> None:
    ours = bank()
    tokens, cells = tokens_of(0, 20, [0, 1, 5])
    tokens.requires_grad_()
    ours.update(tokens, cells)
    assert not ours.prototypes.requires_grad
    ours.loss(tokens, cells, ours.weights(0.5, 0.5, 3.0), 0.07).backward()
    assert tokens.grad is not None and tokens.grad.abs().sum() > 0


def test_an_empty_bank_and_no_tokens_are_no_nan() -> None:
    ours = bank()
    tokens, cells = tokens_of(0, 20, [0, 1])
    weights = ours.weights(0.5, 0.5, 3.0)
    assert ours.loss(tokens, cells, weights, 0.07).item() == 0
    assert ours.loss(tokens[:0], cells[:0], weights, 0.07).item() == 0
    ours.update(tokens[:0], cells[:0])
    assert ours.counts.sum() == 0 and ours.empty_classes() == [0, 1, 2, 3]


def test_a_cell_is_class_and_ring() -> None:
    targets = torch.zeros(1, 12, 12, dtype=torch.uint8)
    targets[:, :, 6:] = 2
    targets[:, 0, 0] = 255
    ring = bands.rings(bands.boundaries(targets, (3, 5, 7)))
    cells = boundary_cells(targets, ring, 3)
    for place in np.ndindex(1, 12, 12):
        expected = -1 if ring[place] < 0 else int(targets[place]) * 3 + int(ring[place])
        assert cells[place] == expected
    assert set(cells.unique().tolist()) == {-1, 0, 1, 2, 6, 7, 8}


@pytest.mark.parametrize("most", [1, 7, 40, 100, 10_000])
def test_tokens_are_spread_over_the_cells_of_each_picture(most: int) -> None:
    """Each cell gives the same number as far as it reaches; where there are few, all are taken."""
    rng = np.random.default_rng(1)
    cells = torch.from_numpy(rng.choice([-1, 0, 3, 5, 8], p=[0.3, 0.5, 0.15, 0.04, 0.01], size=(3, 20, 20)))
    cells[2] = -1
    cells[2, 0, :4] = 3
    places, of = choose_tokens(cells, most, 12)
    flat = cells.flatten()
    assert torch.equal(flat[places], of) and (of >= 0).all() and len(places.unique()) == len(places)
    for picture in range(3):
        own = of[(places // 400) == picture]
        there = {c: int((cells[picture] == c).sum()) for c in (0, 3, 5, 8)}
        taken = {c: int((own == c).sum()) for c in there}
        assert sum(taken.values()) == min(most, sum(there.values()))
        level = max(taken.values())
        assert all(number >= min(level - 1, there[c]) for c, number in taken.items())


def test_which_tokens_are_taken_follows_torchs_generator() -> None:
    cells = torch.zeros(1, 30, 30, dtype=torch.int64)
    chosen = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        chosen.append(choose_tokens(cells, 50, 12)[0])
    assert torch.equal(chosen[0], chosen[1]) and not torch.equal(chosen[0], chosen[2])


def test_the_projector_is_two_convolutions_of_one_pixel() -> None:
    projector = Projector(6, WIDTH)
    features = torch.randn(2, 6, 3, 4)
    first, second = projector.layers[0], projector.layers[2]
    conv = torch.nn.functional.conv2d
    maps = conv(
        conv(features, first.weight[..., None, None], first.bias).relu(), second.weight[..., None, None], second.bias
    )
    maps = torch.nn.functional.normalize(maps, dim=1).permute(0, 2, 3, 1).flatten(0, 2)
    assert torch.allclose(projector(features.permute(0, 2, 3, 1).flatten(0, 2)), maps, atol=1e-6)
