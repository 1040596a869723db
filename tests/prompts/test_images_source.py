from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synthgen.errors import InputError
from synthgen.images import write_image
from synthgen.labels import read_label_space
from synthgen.prompts.sources import images

SPACE = read_label_space("objects")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "a.JPG", "sub/c.png", ".hidden.png"):
        write_image(np.zeros((8, 8, 3), np.uint8), tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


@pytest.mark.parametrize(("recursive", "names"), [(False, ["a.JPG", "b.png"]), (True, ["a.JPG", "b.png", "sub/c.png"])])
def test_every_image_sorted_by_name(folder: Path, recursive: bool, names: list[str]) -> None:
    source = images.build(images.Options(folder=str(folder), recursive=recursive), None)
    found = list(source.candidates(SPACE, (), 0))
    assert [c.photograph for c in found] == [folder / name for name in names]
    assert [c.origin for c in found] == names
    assert {(c.prompt, c.class_name, c.class_id) for c in found} == {("", "", 255)}
    assert list(source.candidates(SPACE, SPACE.foreground, 0)) == []


def test_fingerprint_sees_another_size_and_another_name(folder: Path) -> None:
    options = images.Options(folder=str(folder))
    before = images.fingerprint(options)
    assert images.fingerprint(options) == before
    write_image(np.random.default_rng(0).integers(256, size=(9, 9, 3), dtype=np.uint8), folder / "b.png")
    changed = images.fingerprint(options)
    (folder / "b.png").rename(folder / "d.png")
    assert len({str(f) for f in (before, changed, images.fingerprint(options))}) == 3


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    for name in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match=r"prompts\.source\.folder"):
            images.build(images.Options(folder=str(name)), None)
