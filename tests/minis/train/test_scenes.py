from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synthgen.drawn import objects, streets
from synthgen.errors import StorageError
from synthgen.minis.train import scenes as scenes_file
from synthgen.minis.train.scenes import Rows, augmented, scenes


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes_file, "PART_ROWS", 3)


@pytest.mark.usefixtures("small_parts")
def test_row_i_is_the_drawing_of_its_seed_in_every_part(tmp_path: Path) -> None:
    stored = scenes("objects", 7, 1_000_000, cache=tmp_path, workers=1, pair_probability=0.5)
    assert len(stored) == len(stored.images) == len(stored.attributes) == 7
    for row in range(7):
        drawn = objects.draw(1_000_000 + row, 64, pair_probability=0.5)
        np.testing.assert_array_equal(stored.images[row], drawn.image)
        np.testing.assert_array_equal(stored.masks[row], drawn.mask)
        np.testing.assert_array_equal(stored.instances[row], drawn.instances)
        assert stored.captions[row] == drawn.caption
        assert stored.attributes[row] == drawn.attributes
    street = scenes("streets", 2, 5, cache=tmp_path, workers=1)
    np.testing.assert_array_equal(street.images[1], streets.draw(6).image)
    assert street.images.shape == (2, 64, 96, 3)


@pytest.mark.usefixtures("small_parts")
def test_only_missing_parts_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    draw_part = scenes_file._draw_part

    def counting(draw, folder, first_seed, rows):
        drawn.append(first_seed)
        draw_part(draw, folder, first_seed, rows)

    monkeypatch.setattr(scenes_file, "_draw_part", counting)
    scenes("streets", 3, 0, cache=tmp_path, workers=1)
    more = scenes("streets", 9, 0, cache=tmp_path, workers=1)
    assert drawn == [0, 3, 6]
    scenes("streets", 9, 0, cache=tmp_path, workers=1)
    assert drawn == [0, 3, 6]
    np.testing.assert_array_equal(more.images[8], streets.draw(8).image)
    assert not list(tmp_path.glob("*/.*"))  # nothing temporary stays


@pytest.mark.usefixtures("small_parts")
def test_processes_draw_what_one_process_draws(tmp_path: Path) -> None:
    together = scenes("objects", 6, 10, cache=tmp_path / "two", workers=2)
    alone = scenes("objects", 6, 10, cache=tmp_path / "one", workers=1)
    np.testing.assert_array_equal(together.images[:], alone.images[:])
    assert together.captions == alone.captions


def test_a_changed_world_never_reads_old_drawings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = scenes("streets", 1, 0, cache=tmp_path, workers=1)
    draw = streets.draw
    monkeypatch.setattr(streets, "draw", lambda seed, size_px, **more: draw(seed + 1, size_px, **more))
    after = scenes("streets", 1, 0, cache=tmp_path, workers=1)
    np.testing.assert_array_equal(before.images[0], draw(0).image)
    np.testing.assert_array_equal(after.images[0], draw(1).image)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "index", [4, -1, slice(1, 9, 2), slice(None), [9, 0, 0, 5], np.array([3]), [], (2, 0), (slice(2, 7), slice(1, 2))]
)
def test_rows_are_read_as_one_array_would_be(index) -> None:
    whole = np.arange(30).reshape(10, 3)
    rows = Rows([whole[:4], whole[4:5], whole[5:]])
    assert rows.shape == whole.shape
    expected = whole[np.array(index, dtype=np.int64)] if isinstance(index, list) else whole[index]
    np.testing.assert_array_equal(rows[index], expected)


def test_rows_outside_are_refused() -> None:
    with pytest.raises(IndexError):
        Rows([np.zeros((2, 3))])[2]


def test_bad_requests_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'ocean'.*objects, streets"):
        scenes("ocean", 1, cache=tmp_path)
    with pytest.raises(ValueError, match="count = 0"):
        scenes("objects", 0, cache=tmp_path)
    with pytest.raises(ValueError, match="squares"):
        scenes("objects", 1, cache=tmp_path, size_px=(64, 96))
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(StorageError, match="another cache folder"):
        scenes("objects", 1, cache=blocker)


def test_augmentation_keeps_the_picture_and_follows_its_seed() -> None:
    image = objects.draw(3).image
    copy = image.copy()
    seen = [augmented(image, np.random.default_rng(seed)) for seed in range(6)]
    np.testing.assert_array_equal(image, copy)
    np.testing.assert_array_equal(seen[2], augmented(image, np.random.default_rng(2)))
    assert len({one.tobytes() for one in seen}) == 6
    for one in seen:
        assert one.dtype == np.uint8
        assert np.corrcoef(one.ravel(), image.ravel())[0, 1] > 0.9
