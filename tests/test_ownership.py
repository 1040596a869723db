"""A run folder is one recipe's, and what synthgen has not made in it is nobody's to touch: told by marks, not by
names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.runs import digest

from synthgen import lock, ownership, pipeline
from synthgen.errors import RunError
from synthgen.recipe import read_recipe

Tiny = Callable[..., Path]
FOREIGN = ("README.md", "index.json", "contact_sheet.png", "croissant.json", "wids-train.json", "train-000000.parquet")


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    return folder


def test_a_dataset_folder_of_the_users_is_not_written_over(run: Path, tiny: Tiny, cli: Any) -> None:
    (run / "dataset").mkdir()
    for name in FOREIGN:
        (run / "dataset" / name).write_text(f"mine: {name}")
    before = contents(run)
    done = cli("run", tiny())
    assert done.exit_code == 2 and "no mark of synthgen" in done.stderr
    assert contents(run) == before


def test_an_empty_dataset_folder_is_taken_and_marked(run: Path, tiny: Tiny, cli: Any, undisturbed: Path) -> None:
    (run / "dataset").mkdir()
    assert cli("run", tiny()).exit_code == 0
    assert (run / "dataset" / ownership.MARK).is_file()
    assert digest(run / "dataset") == digest(undisturbed / "dataset")


@pytest.mark.parametrize("name", ["dataset", "render"])
def test_redo_renames_nothing_that_is_not_ours(name: str, finished: Path, tiny: Tiny, cli: Any) -> None:
    shutil.rmtree(finished / name)
    (finished / name).mkdir()
    (finished / name / "thesis.txt").write_text("mine")
    before = contents(finished)
    done = cli("run", tiny(), "--redo", "prompts")
    assert done.exit_code == 2 and "move it away" in done.stderr
    assert contents(finished) == before


@pytest.mark.parametrize("text", ["name: my own notes\n", "", "\0\1\2"])
def test_a_foreign_lock_is_refused_and_left(run: Path, tiny: Tiny, cli: Any, text: str) -> None:
    (run / lock.LOCK).write_text(text)
    done = cli("run", tiny())
    assert done.exit_code == 2 and "is not a lock that synthgen has written" in done.stderr
    assert contents(run) == {lock.LOCK: text.encode()}


def test_after_an_early_stop_another_recipe_is_refused_with_its_setting(run: Path, tiny: Tiny) -> None:
    """As Ctrl-C leaves it: the folder is claimed, and no unit is there."""
    pipeline.begin(read_recipe(str(tiny())), run)
    forgotten = read_recipe(str(tiny()), ["filter.rules.max_class_fraction=0.5"])
    with pytest.raises(RunError, match=r"filter\.rules\.max_class_fraction = 1\.0, the recipe now says 0\.5.*--redo"):
        pipeline.begin(forgotten, run)
    locked = lock.read_lock(run)
    assert locked is not None and locked.filter.rules.max_class_fraction == 1.0
    pipeline.begin(forgotten, run, redo="filter")
    locked = lock.read_lock(run)
    assert locked is not None and locked.filter.rules.max_class_fraction == 0.5


@pytest.mark.parametrize("setting", ["execution.batch_size=1", "pack.license=mit", "title=Other words"])
def test_speed_and_words_may_change(run: Path, tiny: Tiny, setting: str) -> None:
    pipeline.begin(read_recipe(str(tiny())), run)
    pipeline.begin(read_recipe(str(tiny()), [setting]), run)


def test_a_recipe_that_failed_before_anything_was_made_may_be_mended(run: Path, tiny: Tiny, cli: Any) -> None:
    refused = cli("run", tiny(prompts__min_class_similarity=1.0))
    assert refused.exit_code == 2 and "min_class_similarity" in refused.stderr
    assert not (run / lock.LOCK).exists()
    assert cli("run", tiny()).exit_code == 0


def test_the_lock_is_a_recipe_that_repeats_the_run(finished: Path, cli: Any, tmp_path: Path) -> None:
    assert cli("run", finished / lock.LOCK, "--runs", tmp_path / "again").exit_code == 0
    assert digest(tmp_path / "again" / "tiny" / "dataset") == digest(finished / "dataset")
