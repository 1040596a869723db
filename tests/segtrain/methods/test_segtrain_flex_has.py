"""HAS: the distribution, the folding, what a chunk is drawn from, and its cost at a million images."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
import torch

from segtrain.errors import RunError
from segtrain.methods.flex_seg.config import HardnessSettings
from segtrain.methods.flex_seg.has import Hardness, Table, hard_share

IDENTITY = [{"kind": "folder", "content": "a"}, {"kind": "shards", "content": "b"}]


def hardness(sizes: tuple[int, ...] = (3, 4), identity: Any = IDENTITY, **settings: Any) -> Hardness:
    return Hardness(sizes, identity, HardnessSettings(**{"has_update_every": 2, **settings}))


def see(table: Hardness, done: int, images: list[tuple[int, int]], losses: list[float], void: int = -1) -> None:
    labelled = torch.tensor([number != void for number in range(len(images))])
    sources, rows = (np.array(part) for part in zip(*images, strict=True))
    table.see(sources.astype(np.uint8), rows, torch.tensor(losses), labelled)
    table.fold(done)


@pytest.mark.parametrize("standardise", [False, True])
def test_images_are_drawn_with_the_softmax_of_their_hardness(standardise: bool) -> None:
    h = np.array([0.1, 2.0, 0.5, 0.5, 1.2], np.float32)
    z = (h - h.mean()) / h.std() if standardise else h
    expected = np.exp(z / 0.8) / np.exp(z / 0.8).sum()
    drawn = Table(h, 0.8, standardise).draw(np.random.default_rng(0), 200_000)
    assert np.bincount(drawn, minlength=5) / 200_000 == pytest.approx(expected, abs=0.005)


def test_the_share_of_hard_batches() -> None:
    def shares(steps: int = 1000, **settings: Any) -> list[float]:
        return [hard_share(HardnessSettings(**settings), step, steps) for step in (0, 250, 500, 750, 1000)]

    expected = [1 - 1 / (1 + math.exp(0.05 * (t - 50))) for t in (0, 25, 50, 75, 100)]
    assert shares() == pytest.approx(expected)
    assert shares() == pytest.approx([0.08, 0.22, 0.50, 0.78, 0.92], abs=0.005)
    assert shares(has_schedule="linear") == [0, 0.25, 0.5, 0.75, 1]
    assert shares(has_schedule="none") == [0] * 5 and shares(has_schedule="always") == [1] * 5
    hundreds = HardnessSettings(has_t_steps=100, has_midpoint=200)
    assert [round(hard_share(hundreds, step, 40_000), 2) for step in (0, 10_000, 20_000, 30_000)] == [
        0,
        0.01,
        0.5,
        0.99,
    ]


@pytest.mark.parametrize("steep", [{"has_t_steps": 1, "has_midpoint": 20_000}, {"has_k": 100}])
def test_a_sigmoid_of_any_steepness_is_a_share(steep: dict[str, Any]) -> None:
    """Of a midpoint in steps the exponential is beyond all numbers at first."""
    shares = [hard_share(HardnessSettings(**steep), step, 40_000) for step in (0, 20_000, 40_000)]
    assert shares == pytest.approx([0, 0.5, 1])


def test_one_draw_decides_for_the_whole_batch() -> None:
    table = hardness(has_schedule="linear")
    hard = [table.is_hard(step, 4000, 0) for step in range(4000)]
    quarters = np.array(hard).reshape(4, 1000).mean(axis=1)
    assert quarters == pytest.approx([0.125, 0.375, 0.625, 0.875], abs=0.05)
    assert hard == [table.is_hard(step, 4000, 0) for step in range(4000)]
    assert not any(hardness(has_schedule="none").is_hard(step, 10, 0) for step in range(10))
    assert all(hardness(has_schedule="always").is_hard(step, 10, 0) for step in range(10))


def test_folding_against_the_moving_average_by_hand() -> None:
    table = hardness(has_ema=0.75)
    see(table, 1, [(0, 0), (1, 3)], [4.0, 1.0])
    assert not table.values.any(), "a chunk is two steps"
    see(table, 2, [(0, 0), (1, 0)], [2.0, 9.0], void=1)
    # Image 0 had 3 on average, image 6 had 1; image 3 had no labelled pixel. Their mean is 2, where all begin.
    assert table.values.tolist() == [2.25, 2, 2, 2, 2, 2, 1.75]
    see(table, 3, [(0, 0), (0, 1)], [1.0, 5.0])
    see(table, 4, [(1, 1), (1, 1), (1, 0)], [3.0, 3.0, 7.0])
    mean = 0.75 * 2 + 0.25 * (1 + 5 + 3 + 7) / 4
    first, new = 0.75 * 2.25 + 0.25 * 1, [0.75 * mean + 0.25 * loss for loss in (5, 7, 3)]
    assert table.values.tolist() == [first, new[0], mean, new[1], new[2], mean, 1.75]


def test_within_a_class_the_softmax_is_over_the_images_that_show_it() -> None:
    table = hardness((3, 4), has_ema=0.0)
    see(table, 2, [(0, 0), (1, 0), (1, 1), (1, 3)], [9.0, 1.0, 2.0, 0.5])
    rows = np.array([0, 1, 3])
    drawn = [table.draw_within(step, slot, 1, 5, rows, 0) for step in (4, 5) for slot in range(10_000)]
    expected = np.exp([1.0, 2.0, 0.5]) / np.exp([1.0, 2.0, 0.5]).sum()
    assert np.bincount(drawn, minlength=4)[rows] / 20_000 == pytest.approx(expected, abs=0.015)
    assert drawn[:50] == [table.draw_within(4, slot, 1, 5, rows, 0) for slot in range(50)]
    assert drawn[:50] != drawn[10_000:10_050], "each step draws anew"
    assert {table.draw_within(4, slot, 1, 2, np.array([2]), 0) for slot in range(20)} == {2}, "a table for each class"
    assert {table.draw_within(4, slot, 0, 5, np.array([1]), 0) for slot in range(20)} == {1}, "and each source"


def test_within_a_class_a_chunk_is_drawn_from_the_table_of_the_chunk_before() -> None:
    table, rows = hardness(has_temperature=0.01), np.arange(4)
    early = [table.draw_within(2, slot, 1, -1, rows, 0) for slot in range(50)]
    see(table, 2, [(0, 0), (1, 3)], [1.0, 5.0])
    assert [table.draw_within(2, slot, 1, -1, rows, 0) for slot in range(50)] == early and set(early) == {0, 1, 2, 3}
    assert {table.draw_within(4, slot, 1, -1, rows, 0) for slot in range(50)} == {3}
    with pytest.raises(AssertionError, match="chunk 3 is read ahead in chunk 1"):
        table.draw_within(6, 0, 1, -1, rows, 0)


def test_a_chunk_is_drawn_from_the_table_of_the_chunk_before() -> None:
    """So what is read ahead does not depend on how far ahead it is read."""
    table = hardness(has_temperature=0.01)
    early = [table.draw(step, 50, 0) for step in (2, 3)]
    see(table, 1, [(0, 0)], [1.0])
    see(table, 2, [(1, 3)], [5.0])
    assert [table.draw(step, 50, 0) for step in (2, 3)] == early
    assert len(set(early[0])) == 7, "nothing is known yet"
    assert set(table.draw(4, 50, 0)) == {(1, 3)}
    with pytest.raises(AssertionError, match="chunk 3 is read ahead in chunk 1"):
        table.draw(6, 1, 0)


def test_a_continued_table_goes_on_as_the_whole_one_does() -> None:
    """Its state is taken in the middle of a chunk, with losses that are not folded yet."""
    whole, rng = hardness(), np.random.default_rng(0)
    for step in range(7):
        images = [(0, int(rng.integers(3))), (1, int(rng.integers(4)))]
        losses = rng.random(2).tolist()
        if step == 3:
            again = hardness()
            again.load_state({name: tensor.clone() for name, tensor in whole.state().items()})
        for table in (whole, again) if step >= 3 else (whole,):
            see(table, step + 1, images, losses)
    assert np.array_equal(whole.values, again.values) and whole.values.std() > 0
    assert [whole.draw(step, 9, 1) for step in (7, 8, 9)] == [again.draw(step, 9, 1) for step in (7, 8, 9)]


def test_the_table_of_other_data_is_refused_in_one_line() -> None:
    state = hardness().state()
    for other in (hardness((3, 5)), hardness(identity=[IDENTITY[0], {"kind": "shards", "content": "c"}])):
        with pytest.raises(
            RunError, match=r"hardness table of the checkpoint: is of other data .* remove checkpoint"
        ) as e:
            other.load_state(state)
        assert "\n" not in str(e.value)


def test_a_million_images_take_under_100_mb_and_a_draw_under_a_millisecond() -> None:
    table = hardness((600_000, 400_000), has_update_every=1)
    rng = np.random.default_rng(0)
    for done in (1, 2):
        table.see(np.zeros(1000, np.uint8), rng.integers(600_000, size=1000), torch.rand(1000), torch.ones(1000) > 0)
        table.fold(done)
    held = sum(tensor.numel() * tensor.element_size() for tensor in table.state().values())
    table.draw(2, 16, 0)
    table.draw(3, 16, 0)
    held += sum(part._cumulative.nbytes for part in table._tables.values())
    assert held < 100e6, f"{held / 1e6:.0f} MB"
    seconds = []
    for _ in range(50):
        began = time.perf_counter()
        table.draw(2, 16, 0)
        seconds.append(time.perf_counter() - began)
    assert np.median(seconds) < 1e-3
