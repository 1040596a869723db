"""Units and samples that fail:

memory that is too small, faults that pass, samples that keep failing, and faults that are nobody's sample.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from doubles.runs import digest, whole_run

from synthgen import again as made_again
from synthgen import claims, pipeline, stages
from synthgen.engines import retry
from synthgen.engines.events import FOLDER, read_events
from synthgen.errors import InputError, ModelError, RunError, StorageError
from synthgen.recipe import read_recipe
from synthgen.records import Rejected
from synthgen.runner import FAILED, StageRun, Unit

Tiny = Callable[..., Path]
Calls = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSE_S", 0.0)


def faulty(tiny: Tiny, **options: Any) -> Path:
    return tiny(render__renderer={"name": "doubles.faulty_painter", "not_finite_in": 7, "blank_in": 6, **options})


def rendered(recipe: Path, run: Path, *sets: str) -> dict[str, str]:
    """Runs prompts and render; digests of the images."""
    settings = read_recipe(str(recipe), sets)
    for name in ("prompts", "render"):
        for _ in pipeline.run_stage(settings, run, name):
            pass
    return {path: found for path, found in digest(run / "render").items() if path.endswith(".png")}


# memory


def test_too_little_memory_halves_the_batch_and_changes_no_pixel(tiny: Tiny, tmp_path: Path, calls: Calls) -> None:
    recipe = faulty(tiny, most=2)
    small = rendered(recipe, tmp_path / "small", "execution.batch_size=1", "execution.unit_rows=6")
    assert not [call for call in calls() if call.startswith("out of memory")]
    halved = rendered(recipe, tmp_path / "halved", "execution.batch_size=5", "execution.unit_rows=6")
    assert halved == small and len(small) > 4
    done = calls()
    assert [call for call in done if call.startswith("out of memory")] == ["out of memory at 5"], (
        "later units begin with the smaller batch"
    )
    assert done.count("build renderer") == 1
    (event,) = (event for event in read_events(tmp_path / "halved") if event["event"] == "smaller_batch")
    assert (event["batch_size"], event["stage"], event["unit"]) == (2, "render", "00000")


def test_too_little_memory_for_one_image_is_one_clear_line(tiny: Tiny, tmp_path: Path) -> None:
    class Hungry(Shout):
        batch_size = 2

        def process(self, rows: Sequence[Row], folder: Path, unit: str) -> Iterator[Any]:
            import torch

            raise torch.OutOfMemoryError("CUDA out of memory")
            yield

    with pytest.raises(
        ModelError, match=r"^shout unit 00000: out of GPU memory with one image at a time; .*execution\.offload"
    ):
        attempt(stage_of(tmp_path), Hungry())


# faults that pass, samples that fail


def test_a_fault_that_passes_leaves_no_trace_in_the_dataset(tiny: Tiny, tmp_path: Path) -> None:
    flag = tmp_path / "raised"
    recipe = faulty(tiny, once=str(flag))
    first = whole_run(recipe, tmp_path / "first")
    assert flag.exists() and [event["event"] for event in read_events(tmp_path / "first")] == ["retry"]
    again = whole_run(recipe, tmp_path / "again")
    assert digest(first / "dataset") == digest(again / "dataset")
    assert not (again / FOLDER).exists()


def test_samples_that_keep_failing_are_rejected_listed_and_can_be_tried_again(
    tiny: Tiny, tmp_path: Path, cli: Any, calls: Calls
) -> None:
    cured = tmp_path / "cured"
    recipe = faulty(tiny, fails_in=4, cured=str(cured))
    cured.touch()
    whole = whole_run(recipe, tmp_path / "whole")
    cured.unlink()
    run = whole_run(recipe, tmp_path / "run")
    failed = made_again.failed(run)["render"]
    names = {unit.name for unit in stages.stages(run)["render"].units()}
    assert 0 < len(failed) < 12
    assert all(row.detail.startswith("ArithmeticError: seed ") and row.reason == FAILED for row in failed)
    assert stages.stages(run)["render"].num_rows() == stages.stages(whole)["render"].num_rows() - len(failed)
    assert not list(run.rglob(".row"))

    listed = cli("retry", run)
    assert [line.split()[1] for line in listed.stdout.splitlines()[:-1]] == [row.parent for row in failed]
    assert listed.stdout.splitlines()[-1].startswith(f"{len(failed)} samples failed; ")
    old = digest(run / "dataset")
    again = cli("retry", run, "--failed")  # in vain: they fail as before
    assert again.exit_code == 0, again.output
    assert [row.parent for row in made_again.failed(run)["render"]] == sorted(row.parent for row in failed)
    assert digest(run / "dataset") == old == digest(run / "dataset.old-1")

    cured.touch()
    calls()
    again = cli("retry", run, "--failed")
    assert again.exit_code == 0, again.output
    assert calls().count("renderer") == 1, "one batch: these and no others"
    assert made_again.failed(run) == {}
    assert digest(run / "dataset") == digest(whole / "dataset")
    assert {unit.name for unit in stages.stages(run)["render"].units()} - names == {"retry-00000", "retry-00001"}
    before = digest(run)
    assert cli("retry", run, "--failed").stdout == "0 samples failed\n"
    assert cli("run", recipe, "--runs", tmp_path, "--run", "run").exit_code == 0
    assert digest(run) == before


def test_a_retry_that_is_killed_before_its_units_are_done_plans_no_sample_twice(
    tiny: Tiny, tmp_path: Path, cli: Any
) -> None:
    cured = tmp_path / "cured"
    recipe = faulty(tiny, fails_in=4, cured=str(cured))
    run = whole_run(recipe, tmp_path / "run")
    cured.touch()
    whole = whole_run(recipe, tmp_path / "whole")
    failed = {row.parent for row in made_again.failed(run)["render"]}
    pipeline.retry_failed(read_recipe(str(recipe), []), run)  # and killed here
    again = cli("retry", run, "--failed")
    assert again.exit_code == 0, again.output
    planned = [key for unit in stages.stages(run)["render"].units() for key in unit.keys]
    assert sorted(planned) == sorted(failed)
    assert digest(run / "dataset") == digest(whole / "dataset")


def test_units_of_one_row_can_fail_too(tiny: Tiny, tmp_path: Path) -> None:
    recipe = faulty(tiny, fails_in=4)
    made = rendered(recipe, tmp_path / "ones", "execution.unit_rows=1", "execution.retries=0")
    assert {Path(path).name for path in made} == {Path(path).name for path in rendered(recipe, tmp_path / "whole")}


def test_a_fault_of_all_samples_is_raised_as_it_is_and_rejects_nothing(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ArithmeticError, match=r"^seed \d+ cannot be painted$"):
        rendered(faulty(tiny, fails_in=1), tmp_path / "run")
    stage = stages.stages(tmp_path / "run")["render"]
    assert stage.missing() == stage.units() and not list(stage.folder.glob(".*"))


# the wrapper alone


class Row:
    def __init__(self, key: str) -> None:
        self.key, self.parent = key, ""


class Shout:
    """Rejects every row, after `faults` calls that raise."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)

    def process(self, rows: Sequence[Row], folder: Path, unit: str) -> Iterator[Rejected]:
        if self.faults:
            raise self.faults.pop(0)
        for row in rows:
            yield Rejected(row.key, row.key, "shout", "too_loud", "", 0.0)


def stage_of(folder: Path) -> StageRun:
    stage = StageRun("shout", folder / "shout", Rejected, None)
    claims.claim(stage, {}, lambda: [Unit("00000", 0, 2)])
    return stage


def attempt(stage: StageRun, processor: Any, retries: int = 2, by_row: bool = False) -> list[str]:
    told: list[str] = []
    rows = [Row("w0"), Row("w1")]
    assert retry.attempt(
        stage,
        stage.units()[0],
        processor,
        rows,
        retries=retries,
        by_row=by_row,
        tell=lambda event, **_: told.append(event),
    ) == (
        0,
        2,
    )
    return told


def test_a_unit_that_must_be_done_whole_is_tried_a_bounded_number_of_times(tmp_path: Path) -> None:
    assert attempt(stage_of(tmp_path / "two"), Shout(ValueError("a"), ValueError("b"))) == ["retry", "retry"]
    with pytest.raises(ValueError, match=r"^c$"):
        attempt(stage_of(tmp_path / "three"), Shout(ValueError("a"), ValueError("b"), ValueError("c")))
    with pytest.raises(ValueError, match=r"^a$"):
        attempt(stage_of(tmp_path / "none"), Shout(ValueError("a")), retries=0)


@pytest.mark.parametrize(("code", "tries"), [(errno.EIO, 3), (errno.ESTALE, 3), (errno.ENOSPC, 1), (errno.EROFS, 1)])
def test_a_file_system_that_may_recover_is_tried_again_a_full_disk_is_not(
    tmp_path: Path, code: int, tries: int
) -> None:
    processor = Shout(*(OSError(code, "gone") for _ in range(3)))
    with pytest.raises(StorageError, match="cannot be written"):
        attempt(stage_of(tmp_path), processor)
    assert len(processor.faults) == 3 - tries


@pytest.mark.parametrize("error", [InputError("mend it"), KeyboardInterrupt()])
def test_what_a_user_can_mend_is_told_at_once(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        attempt(stage_of(tmp_path), Shout(error), by_row=True)  # type: ignore[arg-type]


def test_a_lost_gpu_blames_no_sample(tmp_path: Path) -> None:
    with pytest.raises(
        RunError,
        match=r"shout unit 00000: the GPU has failed \(RuntimeError: CUDA error: an illegal memory access.*run "
        r"the same",
    ):
        attempt(
            stage_of(tmp_path), Shout(RuntimeError("CUDA error: an illegal memory access was encountered")), by_row=True
        )


def test_event_log_is_json_lines_and_survives_rubbish(tmp_path: Path, tiny: Tiny, cli: Any) -> None:
    assert cli("prompts", tiny()).exit_code == 0
    run = tmp_path / "runs" / "tiny"
    (path,) = (run / FOLDER).iterdir()
    (line,) = path.read_text().splitlines()
    event = json.loads(line)
    assert {"at", "host", "pid", "rank", "seconds", "gpu_gb"} < event.keys()
    assert (event["event"], event["stage"], event["unit"]) == ("unit", "prompts", "00000")
    with path.open("a") as file:
        file.write('{"event": "unit", "sta')
    assert list(read_events(run)) == [event]
