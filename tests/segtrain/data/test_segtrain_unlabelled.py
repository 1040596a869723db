"""Unlabelled sources: what they read, what they do not read, and bad input."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.labels import Label, LabelSpace
from segtrain.data.unlabelled import open_unlabelled
from segtrain.errors import DataError

SPACE = LabelSpace("toy", (Label(0, "ground"), Label(5, "thing")))


def photographs(folder: Path, sizes: list[tuple[int, int]]) -> Path:
    folder.mkdir()
    for number, (height, width) in enumerate(sizes):
        Image.fromarray(np.full((height, width, 3), number, np.uint8)).save(folder / f"p{number}.png")
    return folder


def test_a_folder_of_photographs_has_no_label_anywhere(tmp_path: Path) -> None:
    source = open_unlabelled(str(photographs(tmp_path / "photos", [(40, 50), (32, 64)])), SPACE, 32)
    assert source.group_sizes == (2,) and source.label_space is SPACE
    sample = source.read(1)
    assert sample.image.shape == (32, 64, 3) and sample.image.max() == 1
    assert sample.mask.shape == (32, 64) and (sample.mask == 255).all() and (source.read_mask(0) == 255).all()
    assert source.name(1) == "p1.png"


def test_photographs_in_subfolders_beside_others_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photographs(photographs(tmp_path / "photos", [(40, 50)]) / "more", [(40, 50), (40, 50)])
    assert open_unlabelled(str(tmp_path / "photos"), SPACE, 32).group_sizes == (1,)
    assert "2 pictures in subfolders are not read, the first more/p0.png" in caplog.text


def test_masks_of_a_dataset_are_not_read(tmp_path: Path, write_shards, pairs) -> None:
    """Those in this one are no PNG at all, and one of its classes is unknown to the training."""
    folder = write_shards(tmp_path / "shards", pairs(5))
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as tar:
            names = {member.name: member.offset_data for member in tar.getmembers()}
        data = bytearray(path.read_bytes())
        for name, place in names.items():
            if name.endswith(".png"):
                data[place : place + 8] = b"nonsense"
        path.write_bytes(data)
    other = LabelSpace("other", (Label(0, "sky"), Label(1, "sea")))
    source = open_unlabelled(str(folder), other, 32)
    assert source.group_sizes == (4, 1)
    assert [int(source.read(row).image[0, 0, 0]) for row in range(5)] == [0, 1, 2, 3, 4]
    assert (source.read(3).mask == 255).all()


def test_labels_of_a_labelled_folder_are_not_looked_at(tmp_path: Path, write_folder, pairs) -> None:
    folder = write_folder(tmp_path / "labelled", pairs(2))
    for path in (folder / "labels").iterdir():
        path.write_bytes(b"nonsense")
    source = open_unlabelled(str(folder), SPACE, 32)
    assert source.group_sizes == (2,) and (source.read(0).mask == 255).all()


def test_identity_is_that_of_the_pictures_and_not_of_the_place(tmp_path: Path) -> None:
    first, second = (
        open_unlabelled(str(photographs(tmp_path / name, [(40, 50)] * count)), SPACE, 32)
        for name, count in (("a", 2), ("b", 2))
    )
    assert first.identity == second.identity
    third = open_unlabelled(str(photographs(tmp_path / "c", [(40, 50)] * 3)), SPACE, 32)
    assert third.identity != first.identity


def test_what_cannot_be_used_is_one_line_with_the_way_out(tmp_path: Path, write_shards, pairs) -> None:
    (tmp_path / "empty" / "below").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(tmp_path / "empty" / "below" / "p.png")
    (tmp_path / "none").mkdir()
    small = photographs(tmp_path / "small", [(64, 64), (31, 200)])
    shards = write_shards(tmp_path / "shards", pairs(1))
    large = [(np.zeros((96, 96, 3), np.uint8), np.zeros((96, 96), np.uint8))]
    mixed = write_shards(tmp_path / "mixed", [*large * 5, *pairs(1)])
    for path, crop, says in (
        (tmp_path / "nowhere", 32, r"unlabelled '.*nowhere': no such folder$"),
        (
            tmp_path / "none",
            32,
            r"unlabelled .*none: no picture in it; known kinds are \.jpg, .*\.tiff, \.heic, \.heif$",
        ),
        (tmp_path / "empty", 32, r"there is below/p\.png, but subfolders are not read"),
        (small, 64, r"p1\.png: is 200 x 31 px, most of a crop of 64 px would be padding: lower --crop, or"),
        (shards, 96, r"sample 0: is 32 x 32 px, most of a crop of 96 px would be padding"),
        (mixed, 96, r"train-000001.tar: sample 1: is 32 x 32 px, most of a crop of 96 px would be padding"),
        ("pipe:cat x", 32, r"only local folders are read, no URLs and no pipes"),
    ):
        with pytest.raises(DataError, match=says) as caught:
            open_unlabelled(str(path), SPACE, crop)
        assert "\n" not in str(caught.value)
    assert open_unlabelled(str(small), SPACE, 32)
    assert open_unlabelled(str(shards), SPACE, 64)
