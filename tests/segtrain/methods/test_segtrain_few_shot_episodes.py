from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from segkit.labels import Label, LabelSpace
from segtrain.config import checked
from segtrain.data.base_view import BaseView
from segtrain.data.batches import Batch
from segtrain.data.class_pixels import class_pixels
from segtrain.data.sample import Sample
from segtrain.errors import ConfigError, DataError
from segtrain.methods.few_shot.config import NovelConfig
from segtrain.methods.few_shot.episodes import BASE, REAL, SYNTHETIC, Episodes
from segtrain.methods.few_shot.shots import Place, base_shots, novel_shots, showing
from segtrain.methods.few_shot.view import base_rows, split_classes

SPACE = LabelSpace(
    "s", tuple(Label(i, n) for i, n in ((0, "ground"), (3, "cat"), (5, "dog"), (8, "bus"))), background=0
)
BASE_SPACE, WHOLE = split_classes(SPACE, ("dog",), "here")


class Memory:
    """Masks in memory; an image's grey value is its row, so a batch tells where it came from."""

    def __init__(self, masks: list[np.ndarray], group_sizes: tuple[int, ...] = ()) -> None:
        self.path, self.split, self.label_space, self.masks = Path("memory"), "all", SPACE, masks
        self.group_sizes = group_sizes or (len(masks),)
        self.identity = {"kind": "memory", "n": len(masks)}

    def read(self, row: int, *, confidence: bool = False, original: bool = False) -> Sample:
        image = np.full((*self.masks[row].shape, 3), row, np.uint8)
        return Sample(image, self.masks[row], f"k{row}", f"row {row}")

    def read_mask(self, row: int) -> np.ndarray:
        return self.masks[row]

    def name(self, row: int) -> str:
        return f"k{row}"


def mask(*parts: tuple[int, int]) -> np.ndarray:
    """32 x 32 background with `pixels` of each id, one after another."""
    flat = np.zeros(32 * 32, np.uint8)
    start = 0
    for class_id, pixels in parts:
        flat[start : start + pixels] = class_id
        start += pixels
    return flat.reshape(32, 32)


MASKS = [
    mask((3, 300)),
    mask((5, 300)),
    mask((3, 50), (5, 60)),
    mask((8, 1000)),
    mask(),
    mask((3, 5)),
    mask((8, 30), (3, 500)),
    mask((5, 9)),
]


def test_counting_and_showing() -> None:
    source = Memory(MASKS)
    counts = class_pixels(source)
    assert counts.shape == (8, 256) and (counts.sum(axis=1) == 1024).all()
    assert (counts[2, 3], counts[2, 5], counts[2, 0]) == (50, 60, 914)
    there = showing([source, source], 0.02)  # 20.48 pixels
    assert there.of(3) == [Place(s, row) for s in (0, 1) for row in (0, 2, 6)]
    assert there.of(5, without={Place(0, 1), Place(1, 2)}) == [Place(0, 2), Place(1, 1)]
    assert [place.row for place in showing([source], 0).of(5)] == [1, 2, 7]


def test_novel_shots_are_a_function_of_seed_and_class() -> None:
    there = showing([Memory([mask((5, 100), (8, 100))] * 40)], 0.02)
    both = novel_shots(there, [(5, "dog"), (8, "bus")], 5, seed=1)
    assert len({p for places in both.values() for p in places}) == 10, "no image serves two classes"
    assert both[5] == novel_shots(there, [(5, "dog")], 5, seed=1)[5]
    assert both[5][:1] == novel_shots(there, [(5, "dog")], 1, seed=1)[5], "the 1-shot image is one of the 5"
    assert both[5] != novel_shots(there, [(5, "dog")], 5, seed=2)[5]
    with pytest.raises(
        DataError, match=r"class 'dog' \(id 5\): 40 images show enough of it, 41 are to be shots: lower --shots"
    ):
        novel_shots(there, [(5, "dog")], 41, seed=1)


def test_base_shots_are_drawn_again_for_each_epoch() -> None:
    candidates = {3: [Place(0, n) for n in range(30)], 8: [Place(0, n) for n in range(30, 60)], 9: [Place(0, 60)]}
    epochs = [base_shots(candidates, 4, seed=0, epoch=e) for e in range(20)]
    for places in epochs:
        assert len(places) == 9, "a class with one image gives one"
        assert sum(p.row < 30 for p in places) == 4 and Place(0, 60) in places
    assert len({frozenset(places) for places in epochs}) == 20
    assert len({p.row for places in epochs for p in places}) > 50
    assert epochs[3] == base_shots(candidates, 4, seed=0, epoch=3) != base_shots(candidates, 4, seed=1, epoch=3)


def test_the_base_view_hides_novel_classes() -> None:
    source = Memory(MASKS, group_sizes=(3, 5))
    rows = base_rows(source, BASE_SPACE, keep_novel=True)
    assert rows.tolist() == [0, 2, 3, 5, 6]
    assert base_rows(source, BASE_SPACE, keep_novel=False).tolist() == [0, 3, 5, 6]
    view = BaseView(source, BASE_SPACE, 0, rows)
    assert view.group_sizes == (2, 3)
    assert set(np.unique(view.read(1).mask)) == {0, 3}
    assert set(np.unique(BaseView(source, BASE_SPACE, 255, rows).read_mask(1))) == {0, 3, 255}
    assert view.read(4).where == "row 6"
    assert BaseView(source, BASE_SPACE, 0).group_sizes == (3, 5)
    with pytest.raises(DataError, match="none of 2 images shows a base class without a novel one"):
        base_rows(Memory([mask((5, 9)), mask((3, 9), (5, 9))]), BASE_SPACE, keep_novel=False)


def test_split_classes_orders_the_channels_and_refuses_what_cannot_be() -> None:
    assert [c.name for c in BASE_SPACE.labels] == ["ground", "cat", "bus"]
    assert [c.name for c in WHOLE.labels] == ["ground", "cat", "bus", "dog"]
    with pytest.raises(
        ConfigError, match="here: novel class 'tram' is not in label space 's', which has bus, cat, dog, ground"
    ):
        split_classes(SPACE, ("tram",), "here")
    with pytest.raises(ConfigError, match="'ground' is not"):
        split_classes(SPACE, ("ground",), "here")
    with pytest.raises(ConfigError, match="every class of label space 's' is novel"):
        split_classes(SPACE, ("cat", "dog", "bus"), "here")
    with pytest.raises(ConfigError, match="has no background"):
        split_classes(LabelSpace("s", SPACE.labels), ("dog",), "here")


def episodes(**changes: object) -> Episodes:
    values = {
        "data": ["x"],
        "out": "y",
        "base_model": "z",
        "steps": 40,
        "batch_size": 3,
        "crop_px": 32,
        "shots": 2,
        "scale_min": 1,
        "scale_max": 1,
    }
    config = checked(NovelConfig, {**values, "jitter": 0, "synthetic_ratio": 1, **changes})
    source = Memory(MASKS)
    made = [] if changes.get("synthetic_ratio") == 1e-9 else [Place(0, 2)]
    base = {3: [Place(0, 0), Place(0, 6), Place(0, 2)], 8: [Place(0, 3)]}
    return Episodes(
        config,
        WHOLE,
        ([source], [Place(0, 1), Place(0, 7)]),
        ([source], made),
        ([BaseView(source, BASE_SPACE, 0)], base),
    )


def rows_of(batch: Batch) -> list[int]:
    return batch.images[:, 0, 16, 16].tolist()


def test_a_batch_is_novel_images_and_then_as_many_base_images() -> None:
    data = episodes()
    seen: dict[int, list[int]] = {REAL: [], SYNTHETIC: [], BASE: []}
    for step in range(len(data)):
        batch = data[step]
        assert isinstance(batch, Batch) and batch.images.shape == (6, 3, 32, 32)
        assert (batch.sources[:3] < BASE).all() and (batch.sources[3:] == BASE).all()
        for kind, row, target in zip(batch.sources, rows_of(batch), batch.targets, strict=True):
            seen[int(kind)].append(row)
            if kind == BASE:
                assert 3 not in target, "a novel class is background in base images"
    assert data.planned_counts == [len(seen[kind]) for kind in (REAL, SYNTHETIC, BASE)]
    assert abs(len(seen[REAL]) - 60) <= 2 and len(seen[BASE]) == 120
    assert abs(seen[REAL].count(1) - seen[REAL].count(7)) <= 1 and set(seen[SYNTHETIC]) == {2}
    # Two shots of class 3 and the only image of class 8 in every epoch of three draws.
    assert all(sorted(r == 3 for r in seen[BASE][n : n + 3]) == [False, False, True] for n in range(0, 120, 3))
    assert len({tuple(sorted(seen[BASE][n : n + 3])) for n in range(0, 120, 3)}) == 3, "drawn again for each epoch"


def test_episodes_can_be_sent_to_a_process_that_starts_empty() -> None:
    data = episodes()
    first = data.batch(5)
    assert (pickle.loads(pickle.dumps(data)).batch(5).images == first.images).all()


def test_batches_are_a_function_of_seed_and_step() -> None:
    first, again, other = episodes(), episodes(), episodes(seed=1)
    for step in (17, 3, 39):
        left, right = first[step], again[step]
        assert isinstance(left, Batch) and isinstance(right, Batch)
        assert (
            (left.images == right.images).all()
            and (left.targets == right.targets).all()
            and (left.sources == right.sources).all()
        )
    assert any(rows_of(first[n]) != rows_of(other[n]) for n in range(10))  # type: ignore[arg-type]
    still = episodes(redraw_base=False)
    assert len({tuple(sorted(rows_of(still[n])[3:])) for n in range(40)}) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(("ratio", "real"), [(1.0, 60), (3.0, 30), (0.5, 80), (1e-9, 120)])
def test_the_ratio_of_synthetic_to_real(ratio: float, real: int) -> None:
    counts = episodes(synthetic_ratio=ratio).planned_counts
    assert abs(counts[0] - real) <= 2 and counts[0] + counts[1] == counts[2] == 120


def test_a_ratio_that_leaves_no_synthetic_image_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"synthetic_ratio 0.0001: the synthetic images give none of 3 novel images: raise it"
    ):
        episodes(synthetic_ratio=1e-4, steps=1)
    assert episodes(synthetic_ratio=1e4, steps=1).planned_counts == [1, 2, 3], "a shot comes first whatever the ratio"


def test_synthetic_images_begin_and_shots_have_the_last_word() -> None:
    data = episodes(synthetic=["made"], synthetic_first=0.75, steps=8)
    batches = [data[step] for step in range(8)]
    assert all((batch.sources[:3] == SYNTHETIC).all() for batch in batches[:6])
    assert all((batch.sources[:3] == REAL).all() for batch in batches[6:])
    assert all((batch.sources[3:] == BASE).all() for batch in batches)
    assert data.planned_counts == [6, 18, 24]
    with pytest.raises(ConfigError, match="synthetic_first needs --synthetic, images to begin with"):
        episodes(synthetic_first=0.5)
    for share in (0.01, 0.99):
        counts = episodes(synthetic=["made"], synthetic_first=share, steps=2).planned_counts
        assert counts == [3, 3, 6], "either has a step at least"
    with pytest.raises(ConfigError, match="synthetic_first: needs two steps"):
        episodes(synthetic=["made"], synthetic_first=0.5, steps=1)


def test_zero_is_the_mix_and_changes_no_weights() -> None:
    config = {"data": ["x"], "out": "y", "base_model": "z", "synthetic": ["made"]}
    plain, first = (checked(NovelConfig, {**config, **more}) for more in ({}, {"synthetic_first": 0.5}))
    assert "synthetic_first" not in plain.weight_settings() and first.weight_settings()["synthetic_first"] == 0.5
