"""Which pictures are learnt from, and how often each class is seen in them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from synthgen.adapt.labelled import labelled_pictures, pixel_counts
from synthgen.adapt.recipe import recipe_for
from synthgen.errors import InputError, RecipeError
from synthgen.images import write_image
from synthgen.recipe import Recipe


def test_counts_are_those_of_the_masks(tiny: Callable[..., Recipe], labelled: Path) -> None:
    from segkit.masks import read_mask

    pictures = labelled_pictures(tiny())
    counts = pixel_counts(pictures)
    assert counts.shape == (5, 19)
    for row, pair in zip(counts, pictures.pairs, strict=True):
        mask = read_mask(pair.label, pictures.space)
        assert row.tolist() == [(mask == k).sum() for k in range(19)]


def test_a_limit_chooses_by_the_seed_and_keeps_the_order(tiny: Callable[..., Recipe]) -> None:
    some = {
        seed: [p.stem for p in labelled_pictures(tiny("adapt.data.limit=3", f"seed={seed}")).pairs] for seed in range(6)
    }
    assert all(len(stems) == 3 and stems == sorted(stems) for stems in some.values())
    assert len(set(map(tuple, some.values()))) > 1


def without_labels_file(labelled: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "bare"
    shutil.copytree(labelled, folder)
    (folder / "labels.yaml").unlink()
    return folder


def test_a_folder_without_a_labels_file_is_refused_and_a_named_space_serves(
    tiny: Callable[..., Recipe], labelled: Path, tmp_path: Path
) -> None:
    folder = without_labels_file(labelled, tmp_path)
    with pytest.raises(InputError, match=r"labels\.yaml: no such file.*--set labels\.space=cityscapes"):
        labelled_pictures(tiny(data=folder))
    assert labelled_pictures(tiny("labels.space=cityscapes", data=folder)).space.name == "cityscapes"


def test_the_folders_own_label_space_comes_first(tiny: Callable[..., Recipe], labelled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    shutil.copytree(labelled, folder)
    text = (folder / "labels.yaml").read_text(encoding="utf-8")
    (folder / "labels.yaml").write_text(text.replace("name: cityscapes", "name: mine"), encoding="utf-8")
    assert labelled_pictures(tiny("labels.space=cityscapes", data=folder)).space.name == "mine"


@pytest.mark.parametrize("name", ["two\nlines", "it's", "x: y # z", "~", "tab\t", "[1]", "c\\d", "\x7f", "ü"])
def test_a_folder_and_a_base_are_taken_as_they_are_named(name: str) -> None:
    recipe = recipe_for("", name, name, [])
    assert (recipe.adapt.data.folder, recipe.render.renderer.model_extra["model"]) == (name, name)


def test_no_folder_at_all_is_told(tiny: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match=r"adapt\.data\.folder: is empty; name a labelled folder"):
        labelled_pictures(tiny(data=""))


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        ((255,), "no mask shows a class of label space"),
        ((254, 255), "no mask shows a class"),
        ((0, 255), "one class, 'road'"),
    ],
)
def test_masks_that_teach_nothing_are_refused(
    tiny: Callable[..., Recipe], labelled: Path, tmp_path: Path, ids: tuple[int, ...], told: str
) -> None:
    folder = tmp_path / "void"
    shutil.copytree(labelled, folder)
    for path in (folder / "labels").iterdir():
        mask = np.full((64, 96), ids[0], dtype=np.uint8)
        mask[:, 48:] = ids[-1]
        write_image(mask, path)
    with pytest.raises(InputError, match=told):
        pixel_counts(labelled_pictures(tiny(data=folder)))
