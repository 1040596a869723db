"""Scores of trainings: measured once, again where the command has changed, and carried between machines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import kept, trainings
from benchmarks.trainings import Training, scores


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was started in place of segtrain: a training makes a folder, an evaluation gives the number of starts."""
    commands: list[list[str]] = []

    def start(words: list[str]) -> None:
        commands.append(words)
        if words[0] == "eval":
            Path(words[words.index("--json") + 1]).write_text(json.dumps({"miou": len(commands)}))
        else:
            Path(words[words.index("--out") + 1]).mkdir(parents=True)

    monkeypatch.setattr(trainings, "_segtrain", start)
    trainings.earlier_s.clear()
    return commands


def training(name: str, place: Path, steps: int = 3) -> Training:
    words = ("train", "--data", str(place / "data"), "--steps", str(steps))
    return Training(name, words, {"test": ("--data", "held-out")})


def test_a_training_is_measured_once_and_again_if_its_words_change(started: list[list[str]], tmp_path: Path) -> None:
    first = scores([training("a", tmp_path)], tmp_path)
    assert first == {"a": {"test": {"miou": 2}}} and trainings.earlier_s == []
    assert scores([training("a", tmp_path)], tmp_path) == first
    assert len(started) == 2 and len(trainings.earlier_s) == 1
    assert scores([training("a", tmp_path, steps=4)], tmp_path) == {"a": {"test": {"miou": 4}}}
    assert not (tmp_path / "models" / "a").exists()


def test_kept_words_name_no_place_of_this_machine(
    started: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_checkout(root: Path) -> Training:
        monkeypatch.setattr(trainings, "ROOT", root)
        return Training("a", ("clouds", "--sam", str(root / "weights"), "--data", str(tmp_path / "data")), {})

    first = scores([of_checkout(tmp_path.parent / "one")], tmp_path)
    kept = json.loads((tmp_path / "scores" / "a.json").read_text())["train"]
    assert kept == ["clouds", "--sam", "ROOT/weights", "--data", "PLACE/data"]
    assert scores([of_checkout(tmp_path.parent / "two")], tmp_path) == first and len(started) == 1
    shipped = Path(trainings.__file__).parent / "scores"
    assert all("/tmp/" not in path.read_text() for path in shipped.rglob("*.json"))


def test_a_later_evaluation_may_ask_what_an_earlier_one_found(started: list[list[str]], tmp_path: Path) -> None:
    after: Callable[..., tuple[str, ...]] = lambda found: ("--above", str(found["test"]["miou"]))  # noqa: E731
    one = Training("a", ("train",), {"test": ("--data", "t"), "more": after})
    assert scores([one], tmp_path)["a"] == {"test": {"miou": 2}, "more": {"miou": 3}}
    assert started[-1][:5] == ["eval", "--model", str(tmp_path / "models" / "a"), "--above", "2"]


def test_kept_scores_serve_in_another_place(
    started: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    monkeypatch.setattr(kept, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(kept, "SCRATCH", here)
    first = scores([training("a", here / "study")], here / "study")
    kept.main(["save", "study"])
    monkeypatch.setattr(kept, "SCRATCH", there)
    kept.main(["load", "study"])
    assert scores([training("a", there / "study")], there / "study") == first
    assert len(started) == 2
    with pytest.raises(SystemExit):
        kept.main(["load", "nothing"])


def test_a_training_that_others_begin_with_is_measured_again_if_its_model_is_gone(
    started: list[list[str]], tmp_path: Path
) -> None:
    one = Training("a", ("train",), {"test": ("--data", "t")}, keep=True)
    scores([one], tmp_path)
    model = trainings.model_of("a", tmp_path)
    (model / "config.json").write_text("{}")
    assert scores([one], tmp_path)["a"] == {"test": {"miou": 2}} and len(started) == 2 and model.is_dir()
    shutil.rmtree(model)
    assert scores([one], tmp_path)["a"] == {"test": {"miou": 4}}


def test_what_is_measured_in_this_process_is_kept_with_its_words(tmp_path: Path) -> None:
    found = iter(({"share": 0.25}, {"share": 0.5}))

    def measure() -> dict[str, float]:
        return next(found)

    data = str(tmp_path / "data")
    assert trainings.remembered("a", ["--data", data], tmp_path, measure) == {"share": 0.25}
    assert trainings.remembered("a", ["--data", data], tmp_path, measure) == {"share": 0.25}
    assert trainings.remembered("a", ["--data", data, "--sam", "x"], tmp_path, measure) == {"share": 0.5}
