"""Several launches on one run folder:

they share the work, the first one's plan holds, and nobody commits to what another has taken over.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.processes import environment
from doubles.runs import digest, whole_run

from synthgen import claims, leases, pipeline, runner, stages
from synthgen.engines.events import read_events
from synthgen.errors import RunError
from synthgen.files import host_name
from synthgen.recipe import read_recipe
from synthgen.records import Rejected
from synthgen.runner import StageRun, Unit

Tiny = Callable[..., Path]
UNITS = [Unit(f"{number:05d}", number, number + 1) for number in range(3)]


@pytest.fixture
def stage(tmp_path: Path) -> StageRun:
    stage = StageRun("shout", tmp_path / "shout", Rejected, None)
    claims.claim(stage, {"loud": True}, lambda: UNITS)
    return stage


def elsewhere(stage: StageRun, unit: Unit) -> Path:
    """Scratch of a process of another machine."""
    scratch = stage.folder / f".{unit.name}.another-machine.77"
    scratch.mkdir()
    return scratch


def test_two_processes_share_one_run(tiny: Tiny, tmp_path: Path) -> None:
    """Started together, with unit sizes of their own; each image is slow enough for the two to meet in every stage."""
    recipe = tiny(render__renderer={"name": "doubles.faulty_painter", "not_finite_in": 7, "blank_in": 6, "slow_s": 0.3})
    command = [
        sys.executable,
        "-m",
        "synthgen",
        "run",
        str(recipe),
        "--runs",
        str(tmp_path),
        "--run",
        "both",
        "--set",
        "execution.batch_size=1",
    ]
    launches = [
        subprocess.Popen(
            [*command, "--set", f"execution.unit_rows={size}"], env=environment(), stderr=subprocess.PIPE, text=True
        )
        for size in (2, 3)
    ]
    alone = whole_run(recipe, tmp_path / "alone")
    said = [launch.communicate(timeout=300)[1] for launch in launches]
    assert [launch.returncode for launch in launches] == [0, 0], said
    assert digest(tmp_path / "both" / "dataset") == digest(alone / "dataset")
    assert not [path for path in (tmp_path / "both").rglob(".*") if path.is_dir()]
    render = [
        event for event in read_events(tmp_path / "both") if event["event"] == "unit" and event["stage"] == "render"
    ]
    units = stages.stages(tmp_path / "both")["render"].units()
    assert {event["unit"] for event in render} == {unit.name for unit in units}
    assert len(render) <= len(units) + 1, "what one has taken the other leaves"


def test_the_first_plan_holds(tmp_path: Path) -> None:
    """Both launches see an empty folder and plan; what the first wrote is not replaced."""
    stage = StageRun("shout", tmp_path / "shout", Rejected, None)

    def slow_plan() -> list[Unit]:
        other = threading.Thread(target=claims.claim, args=(stage, {"loud": True}, lambda: UNITS))
        other.start()
        other.join()
        return [Unit("00000", 0, 3)]

    claims.claim(stage, {"loud": True}, slow_plan)
    assert stage.units() == UNITS

    shutil.rmtree(stage.folder)
    with pytest.raises(RunError, match="loud = True, the recipe now says False"):

        def begun() -> list[Unit]:
            claims.claim(stage, {"loud": True}, lambda: UNITS)
            elsewhere(stage, UNITS[0])
            return UNITS

        claims.claim(stage, {"loud": False}, begun)


def test_a_file_system_without_links_has_a_first_plan_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "Operation not permitted")))
    stage = StageRun("shout", tmp_path / "shout", Rejected, None)
    claims.claim(stage, {"loud": True}, lambda: UNITS)
    assert stage.units() == UNITS and [path.name for path in stage.folder.iterdir()] == [runner.CLAIM]


def waited(stage: StageRun, *units: Unit, lease_s: float = leases.LEASE_S) -> list[str]:
    return leases.wait_for_others(stage.folder, [unit.name for unit in units], stage.has, lease_s)


def test_what_another_has_taken_is_left_until_its_lease_ends(stage: StageRun) -> None:
    scratch = elsewhere(stage, UNITS[1])
    (stage.folder / f".{UNITS[2].name}.{host_name()}.{os.getpid()}").mkdir()  # this process's own
    assert [leases.is_taken(stage.folder, unit.name) for unit in UNITS] == [False, True, False]
    assert waited(stage, UNITS[1], UNITS[0]) == [UNITS[0].name], "what is free can be done at once"

    os.utime(scratch, (4e9, 4e9))  # its clock is a hundred years ahead: ages are measured here
    assert waited(stage, UNITS[1], lease_s=0.3) == [UNITS[1].name]

    scratch.rmdir()
    assert waited(stage, UNITS[1]) == [UNITS[1].name]


def test_a_lease_lasts_as_long_as_files_come(stage: StageRun) -> None:
    scratch = elsewhere(stage, UNITS[1])
    stop = threading.Event()

    def work() -> None:
        number = 0
        while not stop.wait(0.05):
            with (scratch / "shard.tar").open("a") as file:
                file.write("x")
            number += 1
            if number == 20:
                scratch.rename(stage.folder / UNITS[1].name)
                (stage.folder / UNITS[1].name / runner.MANIFEST).touch()
                return

    thread = threading.Thread(target=work)
    thread.start()
    assert waited(stage, UNITS[1], lease_s=0.6) == [], "it was done by the other"
    stop.set()
    thread.join()


def test_nothing_is_committed_to_a_folder_that_another_recipe_has_taken(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the plan and the first unit another launch finds a claim of which nothing has come, and takes the
    folder."""
    import doubles.word_bag

    run = tmp_path / "run"
    claim = run / "prompts" / runner.CLAIM
    encode = doubles.word_bag.WordBag.encode

    def taken_meanwhile(self: Any, prompts: Any) -> Any:
        claim.write_text(claim.read_text().replace('"seed": 5', '"seed": 6'))
        return encode(self, prompts)

    monkeypatch.setattr(doubles.word_bag.WordBag, "encode", taken_meanwhile)
    with pytest.raises(RunError, match="another launch has taken this run folder for another recipe"):
        list(pipeline.run_stage(read_recipe(str(tiny())), run, "prompts"))
    assert [path.name for path in (run / "prompts").iterdir()] == [runner.CLAIM]


def test_two_containers_of_one_host_name_have_scratch_of_their_own() -> None:
    """Each has a process 1: neither may take the other's scratch for its own, or for a dead one's."""
    code = "import os, sys; from synthgen.files import host_name; print(host_name(), os.getpid(), flush=True); "
    container = ["unshare", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*container, "true"], capture_output=True).returncode:
        pytest.skip("no namespace of process ids can be made here: `unshare --pid --fork --mount-proc` is refused")
    command = [*container, sys.executable, "-c", f"{code} sys.stdin.read()"]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        told = [process.stdout.readline().split() for process in running if process.stdout]
    finally:
        for process in running:
            process.communicate()
    (first, first_pid), (second, second_pid) = told
    assert (first_pid, second_pid) == ("1", "1")
    assert len({first, second, host_name()}) == 3
    assert "." not in first + second
