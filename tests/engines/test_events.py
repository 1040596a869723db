"""The event log: whatever lies in its folder, it never ends a run, never hangs, and is never read twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen import progress
from synthgen.engines.events import FOLDER, MAX_LINE_BYTES, EventLog, read_events, write_event

GOOD = {"event": "unit", "stage": "render", "unit": "00001", "gpu_gb": 3.5}
ODD = [
    '{"event": "unit", "stage": "pack"}',
    '{"event": "unit", "stage": "render", "gpu_gb": null}',
    '{"event": "unit", "stage": "render", "gpu_gb": "much"}',
    '{"event": "unit", "stage": "render", "gpu_gb": true}',
    '{"event": "unit", "stage": "render", "gpu_gb": NaN}',
    '{"event": "unit", "stage": "render", "gpu_gb": 1e999}',
    '{"event": "unit", "stage": ["render"], "gpu_gb": 2.0}',
    '{"event": []}',
    '{"event": {"a": 1}}',
    '{"event": null}',
    '{"stage": "render"}',
    "[1, 2]",
    "3",
    '"unit"',
    "null",
    "",
    "{",
    "[" * 100_000,
    '{"event": ' * 5000,
    "9" * 5000,
    '{"event": "unit", "gpu_gb": ' + "9" * 5000 + "}",
    '{"event": "retry", "event": "unit"}',
    "\x00\x01",
    "\udcff",
    '{"event": "\\u001b[31mretry"}',
    '{"event": "retry", "why": "' + "x" * MAX_LINE_BYTES + '"}',
]


def write_lines(run: Path, *lines: str) -> Path:
    (run / FOLDER).mkdir(parents=True, exist_ok=True)
    path = run / FOLDER / "host.1.jsonl"
    path.write_bytes(b"".join(line.encode("utf-8", "surrogateescape") + b"\n" for line in lines))
    return path


@pytest.mark.parametrize("line", ODD, ids=lambda line: line[:30])
def test_an_odd_line_is_passed_over_and_those_around_it_are_read(tmp_path: Path, line: str) -> None:
    write_lines(tmp_path, json.dumps(GOOD), line, json.dumps(GOOD))
    events = list(read_events(tmp_path))
    assert events[0] == events[-1] == GOOD and 2 <= len(events) <= 3
    assert progress.GpuMemory(tmp_path).text("render") == ", 3.5 GB of a GPU"
    assert set(progress.incidents(tmp_path).values()) <= {1}


@pytest.mark.parametrize("line", ODD[:9], ids=lambda line: line[:30])
def test_status_and_the_end_of_a_run_survive_an_odd_line(finished: Path, cli: Any, line: str) -> None:
    write_lines(finished, line, '{"event": "\\u001b[31mretry[/red]"}')
    done = cli("status", finished)
    assert done.exit_code == 0, done.output
    progress.summary(finished)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(max_size=40), max_size=5))
def test_no_bytes_end_the_reading(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    run = tmp_path_factory.mktemp("run")
    write_lines(run).write_bytes(b"\n".join(lines))
    for event in read_events(run):
        assert isinstance(event["event"], str)


def test_what_is_no_regular_file_is_passed_over(tmp_path: Path) -> None:
    write_lines(tmp_path, json.dumps(GOOD))
    (tmp_path / FOLDER / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / FOLDER / "pipe.jsonl")
    (tmp_path / FOLDER / "endless.jsonl").symlink_to("/dev/zero")
    (tmp_path / FOLDER / "dangling.jsonl").symlink_to("nowhere")
    assert list(read_events(tmp_path)) == [GOOD]
    assert list(read_events(tmp_path / "no" / "run")) == []


def test_each_look_reads_what_was_appended_since_the_last(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    assert list(log.new()) == []
    path = write_lines(tmp_path, *[json.dumps({**GOOD, "unit": str(i)}) for i in range(1000)])
    assert [event["unit"] for event in log.new()] == [str(i) for i in range(1000)]
    assert list(log.new()) == []
    size = path.stat().st_size
    with path.open("a") as file:
        file.write(json.dumps({**GOOD, "unit": "whole"}) + "\n" + json.dumps({**GOOD, "unit": "cut"})[:20])
    assert [event["unit"] for event in log.new()] == ["whole"]
    assert log._read_bytes[path] == size + len(json.dumps({**GOOD, "unit": "whole"})) + 1
    with path.open("a") as file:
        file.write(json.dumps({**GOOD, "unit": "cut"})[20:] + "\n")
    assert [event["unit"] for event in log.new()] == ["cut"]
    path.write_text(json.dumps({**GOOD, "unit": "another file"}) + "\n")
    assert [event["unit"] for event in log.new()] == ["another file"]
    write_event(tmp_path, "retry", stage="render")
    assert [event["event"] for event in log.new()] == ["retry"]


def test_a_look_costs_what_is_new_and_not_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synthgen.engines import events

    parsed = 0
    parse = events.parse_json

    def counting(*arguments: Any) -> Any:
        nonlocal parsed
        parsed += 1
        return parse(*arguments)

    monkeypatch.setattr(events, "parse_json", counting)
    memory = progress.GpuMemory(tmp_path)
    for number in range(50):
        write_event(tmp_path, "unit", stage="render", unit=str(number), gpu_gb=1.0 + number)
        assert memory.text("render") == f", {1.0 + number:.1f} GB of a GPU"
    assert parsed == 50


@pytest.mark.parametrize("name", ["m[red]x", "m[/red]x", "a\x1b[31mb", "[bold"])
def test_a_run_folder_with_markup_in_its_name_is_shown_as_it_is_called(
    finished: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    run = finished.rename(tmp_path / name)
    progress.summary(run)
    shown = capsys.readouterr().out
    assert name.replace("\x1b", r"\x1b") in shown.replace("\n", "") and "\x1b[31m" not in shown


@pytest.mark.parametrize("name", ["render/00000/seconds.txt", "render/00000/rejected.parquet", "render/stage.json"])
def test_pipes_and_endless_devices_in_a_run_do_not_hang_status_or_report(finished: Path, cli: Any, name: str) -> None:
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        (finished / name).unlink()
        make(finished / name)
        for command in ("status", "report"):
            done = cli(command, finished)
            assert done.exit_code in (0, 2), (command, done.output, done.exception)
