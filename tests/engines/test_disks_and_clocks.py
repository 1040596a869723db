"""Real file systems that fill up or turn read-only, files that are cut short, clocks that jump:

one clear line, then a clean resume.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from doubles.runs import digest, whole_run

from synthgen import pipeline, stages
from synthgen.errors import InputError, RunError, StorageError
from synthgen.recipe import read_recipe

Tiny = Callable[..., Path]


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 160 KiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mount("-t", "tmpfs", "-o", "size=160k", "tmpfs", folder)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(
            "mount: not allowed here, so no disk can be filled for real (test_pipeline_kills.py has the emulated ones)"
        )
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    return str(error)


def test_a_disk_that_is_really_full(small_disk: Path, undisturbed: Path, tiny: Tiny) -> None:
    run = small_disk / "run"
    with pytest.raises(StorageError) as caught:
        whole_run(tiny(), run)
    assert "No space left on device" in one_line(caught.value) and "free" in str(caught.value)
    mount("-o", "remount,size=50m", small_disk)
    assert digest(whole_run(tiny(), run) / "dataset") == digest(undisturbed / "dataset")


def test_a_folder_that_turns_read_only(small_disk: Path, undisturbed: Path, tiny: Tiny) -> None:
    run, recipe = small_disk / "run", read_recipe(str(tiny()))
    mount("-o", "remount,size=50m", small_disk)
    for name in stages.names():
        mount("-o", "remount,ro", small_disk)
        with pytest.raises(StorageError) as caught:
            list(pipeline.run_stage(recipe, run, name))
        assert "Read-only file system" in one_line(caught.value)
        mount("-o", "remount,rw", small_disk)
        for item in pipeline.run_stage(recipe, run, name):
            if item.unit == "00000" and item.num_units > 1:  # and in the middle of the stage
                mount("-o", "remount,ro", small_disk)
                break
        mount("-o", "remount,rw", small_disk)
        for _ in pipeline.run_stage(recipe, run, name):
            pass
    assert digest(run / "dataset") == digest(undisturbed / "dataset")


@pytest.mark.parametrize("reader", ["refine", "pack"])
def test_an_image_that_is_cut_short(finished: Path, tiny: Tiny, undisturbed: Path, reader: str) -> None:
    """refine rejects what it cannot read, pack names the file; moving the broken unit away is the way out of both."""
    recipe = read_recipe(str(tiny()))
    later = list(stages.names())[list(stages.names()).index(reader) :]
    row = next(row for row in stages.stages(finished)["filter"].rows())
    image = finished / row.picture.image
    image.write_bytes(image.read_bytes()[:-200])
    for name in (*later, "dataset"):
        shutil.rmtree(finished / name)
    if reader == "refine":
        for _ in pipeline.run_stage(recipe, finished, "refine"):
            pass
        (refused,) = stages.stages(finished)["refine"].rejected()
        assert (refused.reason, refused.parent) == ("unreadable_image", row.key) and row.picture.image in refused.detail
        shutil.rmtree(finished / "refine")
    else:
        with pytest.raises(InputError) as caught:
            list(pipeline.run_stage(recipe, finished, "pack"))
        assert str(image) in one_line(caught.value)
    image.parent.rename(finished / f".{image.parent.name}")
    assert digest(whole_run(tiny(), finished) / "dataset") == digest(undisturbed / "dataset")


def test_a_manifest_that_is_cut_short(finished: Path, tiny: Tiny, undisturbed: Path) -> None:
    unit = finished / "render" / "00001"
    for name in ("refine", "score", "filter", "pack", "dataset"):
        shutil.rmtree(finished / name)
    (unit / "manifest.parquet").write_bytes((unit / "manifest.parquet").read_bytes()[:-9])
    with pytest.raises(RunError) as caught:
        whole_run(tiny(), finished)
    assert f"move the unit folder {unit} away" in one_line(caught.value)
    shutil.rmtree(unit)
    assert digest(whole_run(tiny(), finished) / "dataset") == digest(undisturbed / "dataset")


def test_a_clock_that_jumps(tmp_path: Path, tiny: Tiny, undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By decades, forwards and backwards, between any two looks; files of a run carry any times."""
    rng = random.Random(0)
    monkeypatch.setattr(time, "time", lambda: rng.uniform(0, 4e9))
    monkeypatch.setattr(time, "time_ns", lambda: rng.randrange(4 * 10**18))
    recipe, run = read_recipe(str(tiny())), tmp_path / "run"
    for name in stages.names():
        for _ in pipeline.run_stage(recipe, run, name, log=True):
            for path in run.rglob("*"):
                when = rng.uniform(0, 4e9)
                os.utime(path, (when, when))
    assert digest(run / "dataset") == digest(undisturbed / "dataset")
