"""Labelled folders: which picture goes with which mask, and what is said where one lacks the other."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from segkit.errors import InputError
from segkit.folders import list_pairs


def folder(tmp_path: Path, images: list[str], labels: list[str]) -> Path:
    for part, names in (("images", images), ("labels", labels)):
        for name in names:
            (tmp_path / part / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / part / name).touch()
        (tmp_path / part).mkdir(exist_ok=True)
    return tmp_path


def test_pairs_come_by_stem_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    pairs = list_pairs(folder(tmp_path, ["b.JPG", "a.webp", ".a.png", "notes.txt"], ["a.png", "b.PNG", ".DS_Store"]))
    assert [(pair.stem, pair.image.name, pair.mask.name) for pair in pairs] == [
        ("a", "a.webp", "a.png"),
        ("b", "b.JPG", "b.PNG"),
    ]


def test_pictures_in_subfolders_beside_others_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As `segtrain predict` writes them for photographs that lie so."""
    place = folder(tmp_path, ["a.jpg", "seq/b.jpg", "seq/c.jpg"], ["a.png", "seq/b.png", "seq/c.png"])
    for _ in range(2):
        assert [pair.stem for pair in list_pairs(place)] == ["a"]
    (line,) = caplog.messages
    assert line == f"{tmp_path / 'images'}: 2 pictures in subfolders are not read, the first seq/b.jpg"


def test_accents_that_an_archive_took_apart_still_pair(tmp_path: Path) -> None:
    whole, apart = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    assert len(list_pairs(folder(tmp_path, [f"{whole}.jpg"], [f"{apart}.png"]))) == 1


@pytest.mark.parametrize(
    ("images", "labels", "says"),
    [
        (["a.jpg"], [], r"images/a\.jpg: has no partner labels/a\.png; add it"),
        (["a.jpg", "b.jpg"], [], r"images/a\.jpg \(and 1 more\): has no partner"),
        (["a.jpg"], ["a.png", "c.png"], r"labels/c\.png: has no partner images/c\.\*; add it"),
        (["a.jpg"], ["a.jpg"], r"there is labels/a\.jpg: a mask must be a PNG"),
        (["a.jpg", "b.avif"], ["a.png", "b.png"], r"there is images/b\.avif: known kinds are \.jpg"),
        (["a.avif"], ["a.png"], r"no image in it; .* \(there is a\.avif\)"),
        (["A.jpg"], ["a.png"], r"there is labels/a\.png: upper and lower case must be the same"),
        (["a.jpg"], ["a_mask.png"], r"there is labels/a_mask\.png: both must have the same name"),
        (["a_leftImg8bit.jpg"], ["a.png"], r"there is labels/a\.png: both must have the same name"),
        (["a.jpg"], ["seq/a.png"], r"there is seq/a\.png, but subfolders are not read"),
        (["seq/a.jpg"], ["a.png"], r"no image in it; .* \(there is seq/a\.jpg, but subfolders are not read\)"),
        (["a.jpg", "a.bmp"], ["a.png"], r"the stem 'a' is taken by a\.bmp"),
        ([], [], "no image in it; known kinds are .jpg"),
    ],
)
def test_what_does_not_pair_is_one_line_that_says_what_is_there(
    tmp_path: Path, images: list[str], labels: list[str], says: str
) -> None:
    with pytest.raises(InputError, match=says) as caught:
        list_pairs(folder(tmp_path, images, labels))
    assert "\n" not in str(caught.value)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="images: no such folder; a labelled folder has images/ and labels/"):
        list_pairs(tmp_path)
