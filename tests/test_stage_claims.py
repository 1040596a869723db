"""Whose a stage's folder is: claims, scratch of the dead, old results, fingerprints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from doubles.shouting import UNIT, WORDS, Shout, Word, contents, one_line
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen import claims, leases, runner
from synthgen.errors import RunError
from synthgen.files import host_name
from synthgen.runner import StageRun, Unit


@pytest.fixture
def stage(tmp_path: Path) -> StageRun:
    stage = StageRun("shout", tmp_path / "run" / "shout", Word, None)
    claims.claim(stage, {"loud": True}, lambda: [UNIT])
    return stage


# claims


def test_plan_is_made_once(stage: StageRun) -> None:
    def plan() -> list[Unit]:
        raise AssertionError("planned again")

    claims.claim(stage, {"loud": True}, plan)
    assert stage.units() == [UNIT]


def test_two_launches_that_plan_the_same_units_plan_them_once(stage: StageRun) -> None:
    """Both have read the plan before the first one extends it."""
    more = [Unit("retry-00001", 0, 0, ("a" * 32,)), Unit("retry-00002", 0, 0, ("b" * 32,))]
    claims.extend(stage, more[:1])
    claims.extend(stage, more)
    assert stage.units() == [UNIT, *more]


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
        (
            {"a": {"folder": "0" * 64}},
            {"a": {"folder": "1" * 64}},
            "other content than a.folder has now",
        ),
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
