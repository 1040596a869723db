"""A unit is whole or not there; rows are accounted for; trouble with the disk is one line."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from doubles.shouting import UNIT, WORDS, Book, Shout, Word, contents, one_line
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen import claims, runner
from synthgen.errors import RunError, StorageError
from synthgen.files import write_text
from synthgen.records import Rejected
from synthgen.rows import write_rows
from synthgen.runner import StageRun, Unit


@pytest.fixture
def stage(tmp_path: Path) -> StageRun:
    stage = StageRun("shout", tmp_path / "run" / "shout", Word, None)
    claims.claim(stage, {"loud": True}, lambda: [UNIT])
    return stage


# units: whole or not at all


def test_unit_is_committed_whole(stage: StageRun) -> None:
    assert runner.run_unit(stage, UNIT, Shout(), WORDS) == (3, 1)
    assert sorted(contents(stage.folder)) == [
        "00000/manifest.parquet",
        "00000/rejected.parquet",
        "00000/w0.txt",
        "00000/w1.txt",
        "00000/w3.txt",
        "stage.json",
    ]
    assert [row.text for row in stage.rows()] == ["ONE", "TWO", "FOUR"]
    assert stage.reasons() == {"begins_with_x": 1}
    assert stage.is_complete()
    assert runner.seconds(stage) >= 0


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt(), RunError("told")])
def test_unit_that_fails_leaves_nothing(stage: StageRun, error: BaseException) -> None:
    class Breaks(Shout):
        def process(self, rows: Sequence[Word], folder: Path, unit: str) -> Iterator[Word | Rejected]:
            yield from super().process(rows[:2], folder, unit)
            raise error

    with pytest.raises(type(error)):
        runner.run_unit(stage, UNIT, Breaks(), WORDS)
    assert list(contents(stage.folder)) == ["stage.json"]
    assert stage.missing() == [UNIT]


def test_rows_that_vanish_are_a_defect_and_publish_nothing(stage: StageRun) -> None:
    class Loses(Shout):
        def process(self, rows: Sequence[Word], folder: Path, unit: str) -> Iterator[Word | Rejected]:
            yield from super().process([row for row in rows if row.key != "w1"], folder, unit)

    with pytest.raises(RunError, match=r"shout unit 00000: 1 rows gave neither a result nor a reason, first w1"):
        runner.run_unit(stage, UNIT, Loses(), WORDS)
    assert list(contents(stage.folder)) == ["stage.json"]


def test_key_made_twice_is_a_defect_and_publishes_nothing(stage: StageRun) -> None:
    class Stutters(Shout):
        def process(self, rows: Sequence[Word], folder: Path, unit: str) -> Iterator[Word | Rejected]:
            yield from super().process(rows, folder, unit)
            yield Word("w0", "w0", "again")

    with pytest.raises(RunError, match="key w0 was made twice"):
        runner.run_unit(stage, UNIT, Stutters(), WORDS)
    assert list(contents(stage.folder)) == ["stage.json"]


class Gives:
    def __init__(self, *rows: Any) -> None:
        self.rows = rows

    def process(self, rows: Sequence[Any], folder: Path, unit: str) -> Sequence[Any]:
        return self.rows


@pytest.mark.parametrize(
    "made",
    [
        [Word("a", "w0", ""), Word("b", "w0", ""), Word("c", "w1", "")],  # several rows of one parent
        [Word("w0", "p", ""), Word("w1", "p", "")],  # the input's key kept
        [Rejected("r", "w0", "s", "no", "", 0.0), Word("w1", "p", "")],
    ],
)
def test_a_row_is_accounted_for_by_key_or_parent(stage: StageRun, made: list[Any]) -> None:
    runner.run_unit(stage, UNIT, Gives(*made), WORDS[:2])
    assert stage.is_complete()


def test_a_row_is_accounted_for_by_parents(tmp_path: Path) -> None:
    stage = StageRun("bind", tmp_path / "bind", Book, None)
    claims.claim(stage, {}, lambda: [UNIT])
    with pytest.raises(RunError, match="first w1"):
        runner.run_unit(stage, UNIT, Gives(Book("b", ("w0",))), WORDS[:2])
    runner.run_unit(stage, UNIT, Gives(Book("b", ("w0", "w1"))), WORDS[:2])
    assert stage.rows() == [Book("b", ("w0", "w1"))]


def test_two_workers_on_one_unit_leave_the_first_ones_bytes(stage: StageRun, monkeypatch: pytest.MonkeyPatch) -> None:
    class Overtaken(Shout):
        def process(self, rows: Sequence[Word], folder: Path, unit: str) -> Iterator[Word | Rejected]:
            yield from super().process(rows, folder, unit)
            with monkeypatch.context() as patch:
                patch.setattr(os, "getpid", lambda: 4_000_001)
                runner.run_unit(stage, UNIT, Shout(), WORDS)
            first.update(contents(stage.folder / "00000"))

    first: dict[str, bytes] = {}
    assert runner.run_unit(stage, UNIT, Overtaken(), WORDS) == (3, 1)
    assert contents(stage.folder / "00000") == first
    assert not list(stage.folder.glob(".*"))


def test_same_rows_same_bytes(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        stage = StageRun("shout", tmp_path / name, Word, None)
        claims.claim(stage, {"loud": True}, lambda: [UNIT])
        runner.run_unit(stage, UNIT, Shout(), WORDS)
        found.append(contents(stage.folder))
    assert found[0] == found[1]


# reading back


@settings(deadline=None, max_examples=12)
@given(
    sizes=st.lists(st.integers(0, 4), min_size=1, max_size=5),
    start=st.integers(0, 12),
    length=st.none() | st.integers(0, 12),
)
def test_rows_of_a_range_are_those_of_the_whole_list(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], start: int, length: int | None
) -> None:
    stage = StageRun("s", tmp_path_factory.mktemp("rows"), Word, None)
    claims.claim(stage, {}, lambda: [Unit(f"{number:05d}", 0, 0) for number in range(len(sizes))])
    expected: list[Word] = []
    for unit, size in zip(stage.units(), sizes, strict=True):
        rows = [Word(f"{unit.name}.{number}", "", "") for number in range(size)]
        runner.run_unit(stage, unit, Gives(*rows), [])
        expected += rows
    stop = None if length is None else start + length
    assert stage.rows(start, stop) == expected[start:stop]
    assert stage.num_rows() == len(expected)


@pytest.mark.parametrize("name", ["manifest.parquet", "rejected.parquet"])
@pytest.mark.parametrize("left", [0, 3, 0.3, 0.7, 0.99])
def test_truncated_manifest_is_one_clear_line(stage: StageRun, name: str, left: float) -> None:
    runner.run_unit(stage, UNIT, Shout(), WORDS)
    path = stage.folder / "00000" / name
    data = path.read_bytes()
    path.write_bytes(data[: left if isinstance(left, int) else int(left * len(data))])
    with pytest.raises(RunError) as caught:
        stage.rows()
        stage.rejected()
    message = one_line(caught.value)
    assert message.startswith(f"{path}: is damaged") and message.endswith(
        f"move the unit folder {path.parent} away and run the same command again"
    )


def test_flipped_bits_are_told_or_without_consequence(stage: StageRun) -> None:
    runner.run_unit(stage, UNIT, Shout(), WORDS)
    path, rows = stage.folder / "00000" / "manifest.parquet", stage.rows()
    data, told = path.read_bytes(), 0
    for place in range(0, len(data), 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        try:
            assert stage.rows() == rows
        except RunError as error:
            told += 1
            assert "is damaged" in one_line(error)
    assert told > len(data) / 7 / 2


def test_manifest_of_another_record_is_damaged_not_full_of_nulls(stage: StageRun) -> None:
    runner.run_unit(stage, UNIT, Shout(), WORDS)
    write_rows([Rejected("a", "", "", "", "", 0.0)], Rejected, stage.folder / "00000" / "manifest.parquet")
    with pytest.raises(RunError, match=r"is damaged .*columns are not those of Word"):
        stage.rows()


def test_missing_parts_of_a_finished_unit_are_told(stage: StageRun) -> None:
    runner.run_unit(stage, UNIT, Shout(), WORDS)
    (stage.folder / "00000" / runner.SECONDS).write_text("soon")
    with pytest.raises(RunError, match=r"seconds\.txt: is damaged"):
        runner.seconds(stage)
    (stage.folder / "00000" / "rejected.parquet").unlink()
    with pytest.raises(RunError, match=r"rejected\.parquet: is damaged"):
        stage.reasons()


# storage trouble


def no_space(*args: object, **kwargs: object) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["RowWriter", "_sync", "Path.rename", "Path.mkdir", "Path.write_text"])
def test_full_disk_is_one_line_and_the_same_command_finishes(
    stage: StageRun, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(*((Path, call.removeprefix("Path.")) if call.startswith("Path.") else (runner, call)), no_space)
        with pytest.raises(StorageError) as caught:
            runner.run_unit(stage, UNIT, Shout(), WORDS)
    assert one_line(caught.value) == (
        f"{stage.folder / '00000'}: cannot be written (No space left on device); "
        "free the space or mend the permissions, then run the same command again"
    )
    assert list(contents(stage.folder)) == ["stage.json"]
    assert not list(stage.folder.glob(".*"))
    runner.run_unit(stage, UNIT, Shout(), WORDS)
    assert stage.is_complete()


def test_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    stage = StageRun("shout", tmp_path / "file" / "run" / "shout", Word, None)
    with pytest.raises(StorageError, match=r"cannot be made \(Not a directory\); choose another place with --runs"):
        claims.claim(stage, {}, lambda: [UNIT])
    assert (tmp_path / "file").read_text() == "mine"


def test_set_aside_that_is_forbidden(stage: StageRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: object) -> Any:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "rename", forbidden)
    with pytest.raises(StorageError, match=r"cannot be set aside as shout\.old-1 \(Permission denied\)"):
        claims.set_aside(stage)


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_text_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    path = tmp_path / "new" / "a.json"
    write_text("old", path)
    monkeypatch.setattr(*((os, "fsync") if function == "fsync" else (Path, "replace")), no_space)
    with pytest.raises(StorageError, match=r"a\.json: cannot be written \(No space left on device\)"):
        write_text("new", path)
    assert [entry.name for entry in path.parent.iterdir()] == ["a.json"]
    assert path.read_text() == "old"
