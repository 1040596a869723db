"""What a proposer learns of a run is learnt once, by one worker, and holds for all."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from synthgen import claims
from synthgen.errors import ModelError, RecipeError, RunError, StorageError
from synthgen.files import host_name
from synthgen.models import Labelled, Learns
from synthgen.recipe import read_recipe
from synthgen.records import MaskRecord
from synthgen.refine import learnt
from synthgen.refine import stage as refine_stage
from synthgen.refine.learnt import learn_once
from synthgen.runner import StageRun, Unit

SUPPORT = [Labelled(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8))]
OWN = [Labelled(np.ones((2, 2, 3), np.uint8), np.ones((2, 2), np.uint8))]


class Pupil:
    """Learns a number: how often it has been taught."""

    learns = True
    support = SUPPORT

    def __init__(self) -> None:
        self.lessons: list[list[Sequence[Labelled]]] = []
        self.knows = b""

    def learn(self, sets: Sequence[Sequence[Labelled]], watch: Callable[[int], None]) -> bytes:
        self.lessons.append(list(sets))
        watch(0)
        self.knows = b"taught %d" % len(self.lessons)
        return self.knows

    def take(self, learnt: bytes) -> None:
        if not learnt.startswith(b"taught"):
            raise ModelError("it is something else")
        self.knows = learnt


@pytest.fixture
def stage(tmp_path: Path) -> StageRun:
    stage = StageRun("refine", tmp_path / "refine", MaskRecord, None)
    claims.claim(stage, {"a": 1}, lambda: [Unit("00000", 0, 1)])
    return stage


def kept(stage: StageRun) -> list[Path]:
    return list(stage.folder.glob(".learnt-*.safetensors"))


def test_the_pupil_of_the_tests_has_what_a_proposer_that_learns_has() -> None:
    assert isinstance(Pupil(), Learns)


def test_the_second_worker_takes_what_the_first_has_learnt(stage: StageRun) -> None:
    first, second = Pupil(), Pupil()
    learn_once(first, stage, 0, list)
    learn_once(second, stage, 0, list)
    assert first.lessons == [[SUPPORT]]
    assert not second.lessons
    assert second.knows == first.knows == b"taught 1"
    assert [path.name for path in stage.folder.iterdir() if path.is_dir()] == []  # the lease is gone


def test_each_round_learns_from_the_support_set_and_the_masks_of_the_round_before(stage: StageRun) -> None:
    pupil, labelled = Pupil(), []

    def label() -> list[Labelled]:
        labelled.append(pupil.knows)
        return OWN

    learn_once(pupil, stage, 2, label)
    assert pupil.lessons == [[SUPPORT], [SUPPORT, OWN], [SUPPORT, OWN]]
    assert labelled == [b"taught 1", b"taught 2"]
    assert kept(stage)[0].read_bytes() == b"taught 3"


def test_a_run_without_images_of_its_own_is_left_with_the_support_set(stage: StageRun) -> None:
    pupil = Pupil()
    learn_once(pupil, stage, 2, list)
    assert pupil.lessons == [[SUPPORT]]


def test_a_folder_that_is_nobodys_run_keeps_nothing(tmp_path: Path) -> None:
    pupil = Pupil()
    learn_once(pupil, StageRun("refine", tmp_path / "refine", MaskRecord, None), 1, lambda: OWN)
    assert len(pupil.lessons) == 2
    assert not (tmp_path / "refine").exists()


def test_damaged_weights_name_the_file_and_the_way_out(stage: StageRun) -> None:
    learn_once(Pupil(), stage, 0, list)
    kept(stage)[0].write_bytes(b"garbage")
    with pytest.raises(RunError, match=r"\.learnt-.*is damaged.*remove it and run the same command again"):
        learn_once(Pupil(), stage, 0, list)


@pytest.fixture
def other_process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def test_whoever_comes_while_another_one_trains_waits_for_it(
    stage: StageRun, other_process: subprocess.Popen[bytes]
) -> None:
    name = f"learnt-{claims.fingerprint(stage.claim()['settings'])}"
    lease = stage.folder / f".{name}.{host_name()}.{other_process.pid}"
    lease.mkdir()
    pupil = Pupil()
    worker = threading.Thread(target=learn_once, args=(pupil, stage, 0, list))
    worker.start()
    time.sleep(0.6)
    assert worker.is_alive()
    assert not pupil.lessons
    (stage.folder / f".{name}.safetensors").write_bytes(b"taught elsewhere")
    worker.join(timeout=30)
    assert pupil.knows == b"taught elsewhere"
    assert not pupil.lessons


def test_the_lease_of_a_dead_worker_holds_nobody_up(stage: StageRun, other_process: subprocess.Popen[bytes]) -> None:
    name = f"learnt-{claims.fingerprint(stage.claim()['settings'])}"
    (stage.folder / f".{name}.{host_name()}.{other_process.pid}").mkdir()
    other_process.kill()
    other_process.wait()
    pupil = Pupil()
    learn_once(pupil, stage, 0, list)
    assert pupil.lessons == [[SUPPORT]]


@pytest.fixture
def always_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sign of life is given at once."""
    monkeypatch.setattr(learnt, "_SIGN_OF_LIFE_S", -1.0)


@pytest.mark.usefixtures("always_told")
def test_a_disk_that_is_full_for_a_while_ends_no_training(stage: StageRun, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unlucky(Pupil):
        def learn(self, sets: Sequence[Sequence[Labelled]], watch: Callable[[int], None]) -> bytes:
            with monkeypatch.context() as patch:
                patch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
                return super().learn(sets, watch)

    pupil = Unlucky()
    learn_once(pupil, stage, 0, list)
    assert kept(stage)[0].read_bytes() == pupil.knows


def test_a_folder_that_takes_no_lease_is_one_line(stage: StageRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
    with pytest.raises(StorageError, match=r"cannot be made \(Read-only file system\); free the space"):
        learn_once(Pupil(), stage, 0, list)


@pytest.mark.usefixtures("always_told")
def test_signs_of_life_are_given_while_the_runs_own_images_are_labelled(stage: StageRun) -> None:
    def label() -> Iterator[Labelled]:
        for number in range(3):
            yield OWN[0]
            sizes.append(sum(path.stat().st_size for path in stage.folder.glob(".learnt-*/alive")) - number)

    sizes: list[int] = []
    learn_once(Pupil(), stage, 1, label)
    assert len(set(sizes)) == 1 and sizes[0] > 0


def test_rounds_of_a_proposer_that_learns_nothing_are_refused() -> None:
    recipe = read_recipe("syn4seg-mini", ["refine.rounds=1", "refine.proposer={name: prototype}"])
    with pytest.raises(RecipeError, match=r"refine\.rounds is 1, but the proposer 'prototype' learns nothing"):
        refine_stage.settings(recipe)


def test_rounds_are_part_of_what_the_stage_was_made_with() -> None:
    learns = "refine.proposer={name: support_segmenter}"
    none, one = (refine_stage.settings(read_recipe("syn4seg-mini", [f"refine.rounds={n}", learns])) for n in (0, 1))
    assert none != one


def test_thresholds_are_not_left_to_a_proposer_that_would_be_trained_for_each_image() -> None:
    recipe = read_recipe("syn4seg-mini", ["refine.apf.lambda_apf=auto", "refine.proposer={name: support_segmenter}"])
    with pytest.raises(RecipeError, match="lambda_apf is auto, but the proposer 'support_segmenter' would be trained"):
        refine_stage.settings(recipe)
