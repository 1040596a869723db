"""The runner alone, with a stage of three lines:

whole units or none, nothing lost without a reason, resume, claims, scratch.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen import claims, leases, runner
from synthgen.errors import RunError, StorageError
from synthgen.files import host_name, write_text
from synthgen.records import Rejected
from synthgen.rows import write_rows
from synthgen.runner import StageRun, Unit


@dataclasses.dataclass(frozen=True, slots=True)
class Word:
    key: str
    parent: str
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Book:
    key: str
    parents: tuple[str, ...]


class Shout:
    """Writes a file for each word; refuses those that begin with x."""

    def process(self, rows: Sequence[Word], folder: Path, unit: str) -> Iterator[Word | Rejected]:
        for row in rows:
            if row.text.startswith("x"):
                yield Rejected(row.key, row.key, "shout", "begins_with_x", row.text, 0.0)
                continue
            (folder / f"{row.key}.txt").write_text(row.text.upper())
            yield Word(row.key, row.key, row.text.upper())


WORDS = [Word(f"w{number}", "", text) for number, text in enumerate(["one", "two", "xerxes", "four"])]
UNIT = Unit("00000", 0, 4)


@pytest.fixture
def stage(tmp_path: Path) -> StageRun:
    stage = StageRun("shout", tmp_path / "run" / "shout", Word, None)
    claims.claim(stage, {"loud": True}, lambda: [UNIT])
    return stage


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the times, by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != runner.SECONDS
    }


def one_line(message: object) -> str:
    text = str(message)
    assert "\n" not in text
    return text


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


# claims


def test_plan_is_made_once(stage: StageRun) -> None:
    def plan() -> list[Unit]:
        raise AssertionError("planned again")

    claims.claim(stage, {"loud": True}, plan)
    assert stage.units() == [UNIT]


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (
            {"a": 1, "b": {"c": 0.5, "d": [1]}},
            {"a": 1, "b": {"c": 0.6, "d": [1]}},
            "b.c = 0.5, the recipe now says 0.6",
        ),
        ({"a": ("x", "y")}, {"a": ("x", "z")}, "a = ['x', 'y'], the recipe now says ['x', 'z']"),
        ({"a": 1}, {"a": 1, "new": "x"}, "new = None, the recipe now says 'x'"),
        ({"a": {"b": 1}}, {"a": 3}, "a = {'b': 1}, the recipe now says 3"),
        ({"a": True}, {"a": "true"}, "a = True, the recipe now says 'true'"),
    ],
)
def test_claim_with_other_settings_names_the_setting_both_values_and_the_ways_out(
    tmp_path: Path, before: Any, now: Any, said: str
) -> None:
    stage = StageRun("shout", tmp_path / "run" / "shout", Word, None)
    claims.claim(stage, before, lambda: [UNIT])
    runner.run_unit(stage, UNIT, Shout(), WORDS)
    claims.claim(stage, before, list)
    kept = contents(stage.folder)
    with pytest.raises(RunError) as caught:
        claims.claim(stage, now, lambda: [UNIT])
    message = one_line(caught.value)
    assert message.startswith(f"{stage.folder}: this run was made with {said}; ")
    assert "another run folder (--run)" in message and "--redo shout" in message
    assert contents(stage.folder) == kept


def test_claim_of_which_nothing_has_come_binds_nobody(stage: StageRun) -> None:
    other = [Unit("00000", 0, 2), Unit("00001", 2, 4)]
    (stage.folder / f".00000.{host_name()}.{dead_pid()}").mkdir()
    assert not claims.check(stage, {"loud": False})
    claims.claim(stage, {"loud": False}, lambda: other)
    assert stage.units() == other and stage.claim()["settings"] == {"loud": False}
    (stage.folder / f".00000.{host_name()}.{os.getpid()}").mkdir()  # somebody is at it
    with pytest.raises(RunError, match="this run was made with loud = False, the recipe now says True"):
        claims.check(stage, {"loud": True})


@pytest.mark.parametrize("finished", [True, False])
def test_foreign_file_is_refused_and_untouched(stage: StageRun, finished: bool) -> None:
    if finished:
        runner.run_unit(stage, UNIT, Shout(), WORDS)
    (stage.folder / "thesis.doc").write_text("mine")
    before = contents(stage.folder)
    with pytest.raises(RunError, match=r"thesis\.doc is not part of this run; move it away"):
        claims.claim(stage, {"loud": True}, list)
    assert contents(stage.folder) == before


def test_folder_without_claim_but_with_files_is_not_taken(tmp_path: Path) -> None:
    stage = StageRun("shout", tmp_path / "shout", Word, None)
    stage.folder.mkdir()
    (stage.folder / "thesis.doc").write_text("mine")
    with pytest.raises(RunError, match=r"has no stage\.json but holds 'thesis\.doc', which is not ours"):
        claims.claim(stage, {}, lambda: [UNIT])
    assert list(contents(stage.folder)) == ["thesis.doc"]


def test_unit_folder_without_manifest_is_told_before_the_work(stage: StageRun) -> None:
    (stage.folder / "00000").mkdir()
    (stage.folder / "00000" / "w0.txt").write_text("ONE")
    with pytest.raises(RunError, match=r"00000: has no manifest\.parquet, so it is not whole; move it away"):
        claims.claim(stage, {"loud": True}, list)
    assert (stage.folder / "00000" / "w0.txt").read_text() == "ONE"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"units": []}',
        '{"units": [{"name": "a"}], "settings": {}}',
        '{"units": 3, "settings": {}}',
        "\xff",
    ],
)
def test_damaged_claim_is_one_clear_line(stage: StageRun, text: str) -> None:
    (stage.folder / "stage.json").write_text(text, encoding="latin-1")
    for use in (stage.units, lambda: claims.claim(stage, {"loud": True}, list)):
        with pytest.raises(
            RunError, match=r"stage\.json: is damaged .*move the folder .* away and run the stage again"
        ) as caught:
            use()
        one_line(caught.value)


def test_stage_not_begun(tmp_path: Path) -> None:
    stage = StageRun("shout", tmp_path / "shout", Word, None)
    assert not stage.is_claimed() and not stage.is_complete()
    with pytest.raises(RunError, match="the stage 'shout' has not been started in this run"):
        stage.units()


# scratch and old results


def dead_pid() -> int:
    """The id of a process that has ended."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    return gone.pid


def test_sweep_removes_the_scratch_of_dead_processes_only(stage: StageRun) -> None:
    runner.run_unit(stage, UNIT, Shout(), WORDS)
    finished = contents(stage.folder)
    gone = dead_pid()
    host = host_name()
    names = {
        f".00001.{host}.{gone}": False,
        f".00002.{host}.{os.getpid()}": True,
        f".00003.elsewhere.{gone}": True,  # that machine's processes cannot be seen from here
        f".00004.{host}.notes": True,
        ".mine": True,
    }
    for name in names:
        (stage.folder / name).mkdir()
        (stage.folder / name / "w9.txt").write_text("half made")
    leases.sweep(stage.folder)
    assert {name: (stage.folder / name / "w9.txt").exists() for name in names} == names
    for name in names:
        if names[name]:
            (stage.folder / name / "w9.txt").unlink()
    assert contents(stage.folder) == finished


def test_set_aside_numbers_and_never_deletes(stage: StageRun) -> None:
    kept = []
    for _ in range(3):
        claims.claim(stage, {"loud": True}, lambda: [UNIT])
        runner.run_unit(stage, UNIT, Shout(), WORDS)
        before = contents(stage.folder)
        moved = claims.set_aside(stage)
        assert moved is not None and contents(moved) == before
        kept.append(moved)
    assert [path.name for path in kept] == ["shout.old-1", "shout.old-2", "shout.old-3"]
    assert claims.set_aside(stage) is None
    assert all(path.is_dir() for path in kept)


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


# fingerprints

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(max_size=4), plain, max_size=4), st.dictionaries(st.text(max_size=4), plain, max_size=4))
def test_fingerprint_is_of_the_settings_and_not_of_their_order(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert claims.fingerprint(one) == claims.fingerprint(dict(reversed(one.items())))
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (claims.fingerprint(one) == claims.fingerprint(other)) == same


@pytest.mark.parametrize(
    "unit",
    [
        {"name": 5, "start": 0, "stop": 1},
        {"name": "../../../../etc", "start": 0, "stop": 1},
        {"name": "a", "start": "0", "stop": 1},
        {"name": "a", "start": 2, "stop": 1},
        {"name": "a", "start": 0, "stop": 1, "keys": [[1]]},
        {"name": "a", "start": 0, "stop": 1, "keys": "abc"},
        {"name": "a"},
        [],
        None,
        3,
    ],
)
def test_a_plan_that_was_edited_by_hand_is_one_line(tmp_path: Path, unit: Any) -> None:
    stage = StageRun("render", tmp_path / "render", Word, None)
    (tmp_path / "render").mkdir()
    for text in (json.dumps({"settings": {}, "units": [unit]}), "[" * 100_000, "9" * 5000, '{"units": 3}', "[]", ""):
        (tmp_path / "render" / "stage.json").write_text(text)
        with pytest.raises(RunError, match=r"stage\.json") as caught:
            stage.units()
        assert "\n" not in str(caught.value)
