from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from segkit.labels import Label, LabelSpace
from synthgen.errors import InputError, LabelError
from synthgen.images import write_image
from synthgen.sources.folder import content_hash, list_labelled, read_labelled

SPACE = LabelSpace("two", (Label(0, "background", (0, 0, 0)), Label(1, "cat", (9, 9, 9))), 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("images", "labels"):
        (tmp_path / "support" / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for stem in ("b", "a"):
        write_image(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), tmp_path / "support" / "images" / f"{stem}.png")
        write_image(np.full((6, 8), 1, np.uint8), tmp_path / "support" / "labels" / f"{stem}.png")
    return tmp_path / "support"


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_pairs_come_by_stem(folder: Path) -> None:
    (folder / "images" / ".DS_Store").write_bytes(b"x")
    pairs = list_labelled(folder)
    assert [pair.stem for pair in pairs] == ["a", "b"]
    image, mask = read_labelled(pairs[0], SPACE)
    assert (image.shape, image.dtype, mask.shape, mask.dtype) == ((6, 8, 3), np.uint8, (6, 8), np.uint8)
    assert (mask == 1).all()


def test_the_hash_follows_the_content_not_the_place(folder: Path, tmp_path: Path) -> None:
    before = content_hash(folder)
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert content_hash(tmp_path / "elsewhere") == before
    write_image(np.zeros((6, 8), np.uint8), folder / "labels" / "a.png")
    assert content_hash(folder) != before


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.images: no such folder") as error:
        list_labelled(tmp_path / "nowhere")
    one_line(error)
    (folder / "labels" / "b.png").unlink()
    with pytest.raises(InputError, match=r"images.b\.png: has no partner labels/b\.png") as error:
        list_labelled(folder)
    one_line(error)
    (folder / "images" / "b.png").unlink()
    (folder / "images" / "a.png").unlink()
    with pytest.raises(InputError, match="no image in it"):
        list_labelled(folder)


def test_a_label_without_an_image_is_named(folder: Path) -> None:
    write_image(np.zeros((6, 8), np.uint8), folder / "labels" / "c.png")
    with pytest.raises(InputError, match=r"labels.c\.png: has no partner images/c"):
        list_labelled(folder)


def test_two_images_of_one_stem_are_refused(folder: Path) -> None:
    shutil.copy(folder / "images" / "a.png", folder / "images" / "a.bmp")
    with pytest.raises(InputError, match="stem 'a' is taken"):
        list_labelled(folder)


def test_sizes_and_ids_are_checked(folder: Path) -> None:
    pair = list_labelled(folder)[0]
    write_image(np.zeros((6, 7), np.uint8), pair.label)
    with pytest.raises(InputError, match=r"is 6 x 7 px \(H x W\), its image 6 x 8") as wrong_size:
        read_labelled(pair, SPACE)
    one_line(wrong_size)
    write_image(np.full((6, 8), 7, np.uint8), pair.label)
    with pytest.raises(LabelError, match=r"a\.png: ids 7 are not in label space 'two'") as wrong_id:
        read_labelled(pair, SPACE)
    one_line(wrong_id)
    pair.label.write_bytes(b"no image")
    with pytest.raises(InputError, match="is no picture inside, a mask must be a PNG"):
        read_labelled(pair, SPACE)
