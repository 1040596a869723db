"""Rare class sampling, and windows around rare classes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segkit.labels import Label, LabelSpace
from synthgen.errors import InputError
from synthgen.images import write_image
from synthgen.sources.label_maps import LabelMap
from synthgen.sources.rare_classes import Sampling, class_probabilities, rare_windows, window_of_class


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=8).filter(any), st.floats(0.005, 2.0))
def test_probabilities_are_the_softmax_of_rarity_over_the_classes_that_occur(
    counts: list[int], temperature: float
) -> None:
    total = sum(counts)
    present = [n for n in counts if n]
    highest = max((1 - n / total) / temperature for n in present)
    scores = [math.exp((1 - n / total) / temperature - highest) if n else 0.0 for n in counts]
    expected = [score / sum(scores) for score in scores]
    split = np.array([[n // 2 for n in counts], [n - n // 2 for n in counts]])
    assert class_probabilities(split, temperature) == pytest.approx(expected)


SPACE = LabelSpace("s", (Label(3, "road"), Label(7, "sign"), Label(9, "car")))
DRAWN: dict[str, Any] = {
    "count": 40, "temperature": 0.01, "min_map_share": 0.001, "min_share": 0.01, "shares": (0.5, 0.5)
}  # fmt: skip


def write_maps(folder: Path, maps: dict[str, np.ndarray]) -> list[LabelMap]:
    folder.mkdir()
    for name, ids in maps.items():
        write_image(ids, folder / f"{name}.png")
    return [LabelMap(folder / f"{name}.png") for name in maps]


def streets(num_maps: int = 4) -> list[np.ndarray]:
    """Road with noise, a small sign in every second map."""
    rng = np.random.default_rng(0)
    maps = [np.where(rng.random((40, 60)) < 0.3, 9, 3).astype(np.uint8) for _ in range(num_maps)]
    for ids in maps[::2]:
        ids[5:9, 50:56] = 7
    return maps


def test_windows_hold_what_they_were_cut_around_and_are_the_map_unchanged(tmp_path: Path) -> None:
    maps = streets()
    found = list(
        rare_windows(write_maps(tmp_path / "a", dict(zip("abcd", maps, strict=True))), SPACE, (16, 32), 0,
                     Sampling(**DRAWN))
    )  # fmt: skip
    assert len(found) == 40
    rare = 0
    for label_map, ids in found:
        whole = maps["abcd".index(label_map.path.stem)]
        assert label_map.window is not None
        np.testing.assert_array_equal(ids, whole[label_map.window])
        np.testing.assert_array_equal(label_map.ids(SPACE), ids)
        assert ids.shape == (15, 30)  # half of 30 x 60, the largest window of that aspect
        rare += (ids == 7).mean() >= 0.01
    assert rare >= 39  # the sign covers 0.5 % of all pixels: at T = 0.01 nothing else is drawn


def test_which_windows_are_cut_follows_from_seed_and_contents_not_from_names(tmp_path: Path) -> None:
    maps = streets()
    orders = [dict(zip("abcd", maps, strict=True)), dict(zip("abcd", maps[::-1], strict=True))]
    cuts = [
        [ids.tobytes() for _, ids in rare_windows(write_maps(tmp_path / str(n), order), SPACE, (9, 9), 5,
                                                  Sampling(**DRAWN))]
        for n, order in enumerate(orders)
    ]  # fmt: skip
    assert cuts[0] == cuts[1]
    other = [ids.tobytes() for _, ids in rare_windows(
        write_maps(tmp_path / "x", orders[0]), SPACE, (9, 9), 6, Sampling(**DRAWN))]  # fmt: skip
    assert other != cuts[0]
    fewer = [ids.tobytes() for _, ids in rare_windows(
        write_maps(tmp_path / "y", orders[0]), SPACE, (9, 9), 5, Sampling(**DRAWN | {"count": 7}))]  # fmt: skip
    assert fewer == cuts[0][:7]


def test_a_class_of_one_pixel_is_found_and_its_last_pixel_too() -> None:
    for place in ((0, 0), (11, 19), (11, 0)):
        of_class = np.zeros((12, 20), bool)
        of_class[place] = True
        for seed in range(20):
            window, is_enough = window_of_class(np.random.default_rng(seed), of_class, (1, 1), (0.5, 0.5), 1 / 36)
            assert is_enough and of_class[window].any()
    for seed in range(5):
        assert not window_of_class(np.random.default_rng(seed), of_class, (1, 1), (0.5, 0.5), 0.5)[1]


def test_windows_that_no_map_can_give_are_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    maps = write_maps(tmp_path / "a", {"a": streets()[0]})
    for change, key in (({"min_map_share": 1.0}, "windows.min_map_share"), ({"min_share": 1.0}, "windows.min_share")):
        with pytest.raises(InputError, match=key) as caught:
            list(rare_windows(maps, SPACE, (8, 8), 0, Sampling(**DRAWN | change)))
        assert "\n" not in str(caught.value)
    void = write_maps(tmp_path / "void", {"a": np.full((9, 9), 255, np.uint8)})
    with pytest.raises(InputError, match="min_map_share"):
        list(rare_windows(void, SPACE, (8, 8), 0, Sampling(**DRAWN)))
    scarce = Sampling(**DRAWN | {"min_share": 0.058, "shares": (0.5, 1.0)})
    assert 0 < len(list(rare_windows(maps, SPACE, (8, 8), 0, scarce))) < 40
    assert "windows, not 40" in caplog.text
