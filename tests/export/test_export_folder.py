"""The folder of an export: nobody's files are touched, and what is finished stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles.shouting import contents

from benchmarks.drawn_dataset import drawn_dataset
from synthgen.errors import StorageError
from synthgen.export.folder import ExportFolder
from synthgen.export.run import export

GOLDEN = Path(__file__).parents[1] / "golden" / "shards"


def test_a_kill_between_the_last_two_steps(tmp_path: Path) -> None:
    export(GOLDEN, "voc", tmp_path / "out")
    (tmp_path / "out" / ".unfinished").mkdir()
    assert export(GOLDEN, "voc", tmp_path / "out").num_new == 0
    assert not (tmp_path / "out" / ".unfinished").exists()


@pytest.mark.parametrize(
    "there", ["a file", "a folder", "the place is a file", "another format", "another dataset", "a strange export.json"]
)
def test_foreign_folders_are_refused_and_not_touched(tmp_path: Path, there: str) -> None:
    out = tmp_path / "out"
    if there == "the place is a file":
        out.write_text("mine")
    elif there == "another format":
        export(GOLDEN, "voc", out)
    elif there == "another dataset":
        export(drawn_dataset(tmp_path / "run", count=3), "coco", out)
    else:
        out.mkdir()
        (
            out / {"a file": "thesis.tex", "a folder": "images", "a strange export.json": "export.json"}[there]
        ).write_text("{}")
    before = contents(tmp_path)
    with pytest.raises(StorageError, match="choose a new folder"):
        export(GOLDEN, "coco", out)
    assert contents(tmp_path) == before


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert export(GOLDEN, "folder", tmp_path / "out").num_new == 12


def test_a_path_out_of_the_folder_is_a_bug(tmp_path: Path) -> None:
    folder = ExportFolder(tmp_path / "out", {"format": "x", "dataset": "y", "index_sha256": "z"})
    folder.open()
    for path in ("../x", "/etc/x", "a/../../x"):
        with pytest.raises(ValueError, match="leads out"):
            folder.put(path, [b""])


def test_what_somebody_keeps_in_the_working_folder_is_neither_removed_nor_written_through(tmp_path: Path) -> None:
    mine = tmp_path / "out" / ".unfinished" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(StorageError, match="exists and is no export of this dataset"):
        export(GOLDEN, "coco", tmp_path / "out")
    assert [path.name for path in mine.parent.iterdir()] == ["mine.txt"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / ".unfinished").symlink_to(elsewhere)
    with pytest.raises(StorageError, match="exists and is no export of this dataset"):
        export(GOLDEN, "coco", tmp_path / "linked")
    assert not list(elsewhere.iterdir())
    export(GOLDEN, "coco", tmp_path / "done")
    (tmp_path / "done" / ".unfinished").mkdir()
    (tmp_path / "done" / ".unfinished" / "mine.txt").write_text("mine")
    assert export(GOLDEN, "coco", tmp_path / "done").num_new == 0
    assert (tmp_path / "done" / ".unfinished" / "mine.txt").read_text() == "mine"
