"""A new folder holds everything or nothing, whatever ends the writing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from synthgen.errors import StorageError
from synthgen.files import host_name
from synthgen.new_folder import new_folder


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("was_there", [False, True])
def test_it_is_whole_at_the_end_and_as_it_was_if_the_block_raises(tmp_path: Path, was_there: bool) -> None:
    out = tmp_path / "a" / "out"
    if was_there:
        out.mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), new_folder(out) as work:
        (work / "half").write_text("x")
        raise KeyboardInterrupt
    assert contents(out) == [] if was_there else not out.exists()
    with new_folder(out) as work:
        (work / "images").mkdir()
        (work / "images" / "1.png").write_text("x")
        (work / "labels.yaml").write_text("y")
        assert [name for name in contents(out) if not name.startswith(".")] == []
    assert contents(out) == ["images", "labels.yaml"]
    assert (out / "images" / "1.png").read_text() == "x"


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_fills_is_not(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = out / f".unfinished.{host_name()}.{ended.pid}"
    left.mkdir(parents=True)
    (left / "half").write_text("x")
    with new_folder(out) as work:
        (work / "whole").write_text("x")
        with pytest.raises(StorageError, match=rf"process {os.getpid()} of .* is filling it"), new_folder(out):
            pass
        assert work.is_dir()
    assert contents(out) == ["whole"]


@pytest.mark.parametrize("name", ["mine.txt", ".unfinished", ".unfinished.elsewhere.x", ".git"])
def test_a_folder_that_holds_anything_is_refused_and_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(StorageError, match="exists and is not empty; give a new folder"), new_folder(tmp_path):
        pass
    assert contents(tmp_path) == [name]


def test_what_another_machine_fills_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / ".unfinished.elsewhere.1").mkdir()
    with pytest.raises(StorageError, match="process 1 of elsewhere is filling it"), new_folder(tmp_path):
        pass
    assert contents(tmp_path) == [".unfinished.elsewhere.1"]


def test_a_place_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="file/out: cannot be made"), new_folder(tmp_path / "file" / "out"):
        pass
