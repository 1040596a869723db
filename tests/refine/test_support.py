from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from segkit.labels import Label, LabelSpace
from synthgen.errors import InputError
from synthgen.images import write_image
from synthgen.recipe import Recipe
from synthgen.refine.support import check_support, drawn_shots, folder_shots, support_shots
from synthgen.settings import DrawnSupport
from synthgen.sources.folder import warn_of_another_space


def space(*names: str, background: int | None = 0) -> LabelSpace:
    return LabelSpace("test", tuple(Label(n, name, (n, n, n)) for n, name in enumerate(names)), background)


OBJECTS = space("background", "cat", "boat", "bus")


def recipe(**sections: object) -> Recipe:
    return Recipe.model_validate({"name": "test", "labels": {"space": "unused"}, **sections})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images: 0-5 show a cat, 4-7 a boat, 8 a speck of a bus, 9 nothing."""
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    for n in range(10):
        mask = np.zeros((20, 30), np.uint8)
        if n < 6:
            mask[:10, :10] = 1
        if 4 <= n < 8:
            mask[10:, 10:] = 2
        if n == 8:
            mask[0, :3] = 3
        write_image(np.full((20, 30, 3), n, np.uint8), tmp_path / "images" / f"{n}.png")
        write_image(mask, tmp_path / "labels" / f"{n}.png")
    return tmp_path


def chosen(folder: Path, wanted: tuple[int, ...], shots: int, seed: int) -> dict[int, list[int]]:
    """class id -> numbers of the images chosen for it."""
    found: dict[int, list[int]] = {}
    for shot in folder_shots(folder, OBJECTS, wanted, shots, seed):
        assert (shot.mask == shot.class_id).any()
        found.setdefault(shot.class_id, []).append(int(shot.image[0, 0, 0]))
    return found


def test_shots_of_a_folder_hold_their_class_and_follow_from_the_seed(folder: Path) -> None:
    picked = chosen(folder, (1, 2), 3, seed=0)
    assert set(picked[1]) <= set(range(6))
    assert set(picked[2]) <= {4, 5, 6, 7}
    assert all(len(set(numbers)) == 3 for numbers in picked.values())
    assert chosen(folder, (1, 2), 3, seed=0) == picked
    assert chosen(folder, (2,), 3, seed=0) == {2: picked[2]}, "the shots of a class depend on the other classes"
    assert any(chosen(folder, (1, 2), 3, seed) != picked for seed in range(1, 5))


def test_two_classes_may_share_an_image_and_its_arrays(folder: Path) -> None:
    shots = folder_shots(folder, OBJECTS, (1, 2), 10, 0)
    by_image: dict[int, set[int]] = {}
    for shot in shots:
        by_image.setdefault(int(shot.image[0, 0, 0]), set()).add(id(shot.image))
    assert len(shots) == 6 + 4
    assert len(by_image) == 8
    assert all(len(arrays) == 1 for arrays in by_image.values())


def test_too_few_images_are_a_warning_and_none_is_an_error(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(folder_shots(folder, OBJECTS, (2,), 5, 0)) == 4
    assert "4 instead of 5 images for class 'boat'" in caplog.text
    with pytest.raises(InputError, match="no image shows enough of class 'bus'"):
        folder_shots(folder, OBJECTS, (1, 3), 1, 0)


def test_drawn_objects_come_in_the_ids_of_the_label_space() -> None:
    shots = drawn_shots(DrawnSupport(world="objects", seed=7, size_px=48), OBJECTS, (3, 1), 2)
    assert [shot.class_id for shot in shots] == [3, 3, 1, 1]
    for shot in shots:
        assert shot.image.shape == (48, 48, 3)
        assert set(np.unique(shot.mask)) == {0, shot.class_id}
    again = drawn_shots(DrawnSupport(world="objects", seed=7, size_px=48), OBJECTS, (1,), 2)
    assert [shot.image.tobytes() for shot in again] == [shot.image.tobytes() for shot in shots[2:]]
    other = drawn_shots(DrawnSupport(world="objects", seed=8, size_px=48), OBJECTS, (1,), 2)
    assert other[0].image.tobytes() != again[0].image.tobytes()


def test_a_class_of_the_world_is_found_in_another_spelling() -> None:
    named = space("car", "Traffic_Light", background=None)
    shots = drawn_shots(DrawnSupport(world="streets", seed=7, size_px=64), named, (0, 1), 1)
    assert [shot.class_id for shot in shots] == [0, 1]


def test_drawn_streets_are_searched_for_the_class() -> None:
    streets = space("car", "road", "sky", background=None)
    shots = drawn_shots(DrawnSupport(world="streets", seed=7, size_px=64), streets, (0, 1), 2)
    assert [shot.class_id for shot in shots] == [0, 0, 1, 1]
    for shot in shots:
        assert shot.image.shape == (64, 96, 3)
        assert (shot.mask == shot.class_id).sum() >= 16
        # A class of the world that the label space does not have is unlabelled, not background.
        assert set(np.unique(shot.mask)) <= {0, 1, 2, 255}


def test_what_the_world_does_not_draw_is_named() -> None:
    with pytest.raises(InputError, match="has no class 'dragon'; it has: aeroplane"):
        drawn_shots(DrawnSupport(world="objects"), space("background", "dragon"), (1,), 1)
    with pytest.raises(InputError, match="does not draw class 'train' often enough"):
        drawn_shots(DrawnSupport(world="streets", size_px=48), space("train", background=None), (0,), 1)


def test_a_folder_that_calls_an_id_otherwise_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    wanted = recipe(labels={"space": "x", "classes": ["cat"]}, support={"folder": str(folder)})
    path = folder / "labels.yaml"
    for words, warned in (("not: labels", False), (json.dumps(OBJECTS.to_json()), False), ("other", True)):
        if words == "other":
            words = json.dumps(space("background", *(f"other {number}" for number in range(3))).to_json())
        path.write_text(words)
        caplog.clear()
        warn_of_another_space.cache_clear()
        check_support(wanted, OBJECTS, f"{warned}{words[:20]}")
        assert (f"{path}: calls id 1 'other 0', which is 'cat' in label space 'test'" in caplog.text) == warned


def test_a_class_that_the_drawn_world_lacks_is_told_before_a_run_begins() -> None:
    check_support(recipe(labels={"space": "x", "classes": ["cat"]}), OBJECTS, "")
    with pytest.raises(
        InputError, match=r"has no class 'dragon'; it has: aeroplane.*; give labelled images with support"
    ):
        check_support(recipe(labels={"space": "x", "classes": ["dragon"]}), space("background", "dragon"), "")


def test_the_recipe_chooses_folder_or_drawing(folder: Path) -> None:
    from_folder = support_shots(
        recipe(labels={"space": "x", "classes": ["cat"]}, support={"folder": str(folder), "shots": 2}), OBJECTS
    )
    assert from_folder[0].image.shape == (20, 30, 3)
    drawn = support_shots(recipe(labels={"space": "x", "classes": ["cat"]}, support={"shots": 1}), OBJECTS)
    assert [shot.image.shape for shot in drawn] == [(64, 64, 3)]


def test_masks_of_0_and_255_are_told_that_255_means_unlabelled(tmp_path: Path) -> None:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 5:15] = 255
    write_image(np.zeros((20, 20, 3), np.uint8), tmp_path / "images" / "a.png")
    write_image(mask, tmp_path / "labels" / "a.png")
    space = LabelSpace("one", (Label(0, "background"), Label(1, "crane")), 0)
    with pytest.raises(InputError, match=r"class 'crane' .*; the masks have only 0 and 255, and 255 means unlabelled"):
        folder_shots(tmp_path, space, [1], 1, 0)
