from __future__ import annotations

import os
import sys
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


def test_the_contact_sheet_of_a_finished_dataset_is_no_photograph(folder: Path) -> None:
    (folder / "index.json").write_text("{}")
    assert len(list(images.build(images.Options(folder=str(folder)), None).candidates(SPACE, (), 0))) == 2
    (folder / "train-000000.tar").write_bytes(b"")
    with pytest.raises(InputError, match=r"is a finished dataset.*`synthgen export .* --to folder --out DIR` writes"):
        images.build(images.Options(folder=str(folder)), None)


def test_what_is_not_taken_is_counted_and_named(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (folder / "phone.HEIC").write_bytes(b"")
    (folder / "camera.NEF").write_bytes(b"")
    (folder / "broken link.jpg").symlink_to(folder / "absent.jpg")
    (folder / "folder.png").mkdir()
    write_image(np.zeros((8, 8, 3), np.uint8), folder / "sub" / "d.png")
    source = images.build(images.Options(folder=str(folder)), None)
    assert [c.origin for c in source.candidates(SPACE, (), 0)] == ["a.JPG", "b.png"]
    told = [line.split(": ", 1)[1] for line in caplog.messages]
    assert told == [
        "1 not taken, the first phone.HEIC, HEIC needs pillow-heif: pip install 'synthgen-seg[heic]', or save the "
        "pictures as JPEG",
        "1 not taken, the first .hidden.png, hidden (the name or a folder's begins with a dot): rename it",
        "2 not taken, the first sub/c.png, in subfolders: prompts.source.recursive=true takes them",
        "1 not taken, the first broken link.jpg, links to files that are not there",
        "1 not taken, the first folder.png, no regular files",
        "1 not taken, the first camera.NEF, of other formats: save them as JPEG or PNG "
        "(.jpg, .jpeg, .png, .webp, .bmp, .tif, .tiff, .heic, .heif are read)",
    ]


def test_a_hidden_folder_is_left_out_and_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / ".thumbs").mkdir()
    write_image(np.zeros((8, 8, 3), np.uint8), folder / ".thumbs" / "small.png")
    source = images.build(images.Options(folder=str(folder), recursive=True), None)
    assert [c.origin for c in source.candidates(SPACE, (), 0)] == ["a.JPG", "b.png", "sub/c.png"]
    (line,) = caplog.messages
    assert "2 not taken, the first .hidden.png, hidden" in line


def test_a_linked_folder_is_not_followed_and_told(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write_image(np.zeros((8, 8, 3), np.uint8), elsewhere / "d.png")
    (folder / "linked").symlink_to(elsewhere)
    source = images.build(images.Options(folder=str(folder), recursive=True), None)
    assert "linked/d.png" not in [c.origin for c in source.candidates(SPACE, (), 0)]
    assert any("1 not taken, the first linked, links to folders, which are not followed" in m for m in caplog.messages)


def test_a_folder_whose_images_lie_deeper_says_so(tmp_path: Path) -> None:
    (tmp_path / "sub dir").mkdir()
    write_image(np.zeros((8, 8, 3), np.uint8), tmp_path / "sub dir" / "c.png")
    with pytest.raises(InputError, match=r"the first sub dir/c\.png, in subfolders: prompts\.source\.recursive=true"):
        images.build(images.Options(folder=str(tmp_path)), None)


def test_a_name_that_is_not_utf8_is_one_line_with_the_file(folder: Path) -> None:
    name = folder / os.fsdecode(b"caf\xe9.jpg")
    try:
        (folder / "b.png").rename(name)
    except OSError:
        pytest.skip("this file system takes names of UTF-8 alone")
    with pytest.raises(InputError, match=r"caf\\udce9\.jpg: the file's name is not UTF-8") as caught:
        images.fingerprint(images.Options(folder=str(folder)))
    assert str(caught.value).isprintable()
