"""Scores while a training goes on, and the best weights beside the last."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from doubles.killed_training import Killed, kill_at, weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segtrain.evaluate import evaluate
from segtrain.methods.supervised.method import train
from segtrain.segmenter import load_model


@pytest.fixture
def scored(settings, tmp_path: Path, write_folder, pairs):
    """`scored(...)`: 6 steps, a score after each; the learning rate is such that the scores go up and down."""
    held_out = write_folder(tmp_path / "held-out", pairs(3, (40, 48)))

    def make(**changes):
        values = {"data": [str(held_out)], "validation": str(held_out), "validate_every": 1, "learning_rate": 0.03}
        return settings(**{**values, **changes})

    return make


def curve(folder: Path) -> dict[int, float]:
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {event.step: event.value for event in events.Scalars("validation/miou")}


def test_the_best_is_kept_beside_the_last_and_says_how_it_was_chosen(scored, tmp_path: Path) -> None:
    folder = train(scored())
    points = curve(folder)
    assert list(points) == [1, 2, 3, 4, 5, 6], "the last score is a point too"
    first_best = max(points, key=lambda step: points[step])
    assert len(set(points.values())) > 1
    for path in (folder, folder / "best"):
        best = json.loads((path / "config.json").read_text())["_segtrain"]["best"]
        assert best == {
            "step": first_best,
            "miou": pytest.approx(points[first_best], abs=1e-6),
            "rule": "greatest mIoU on the validation set, the earliest of equals",
        }
    assert json.loads((folder / "best" / "config.json").read_text())["_segtrain"]["steps"] == first_best
    for path, step in ((folder, 6), (folder / "best", first_best)):
        assert evaluate(path, str(tmp_path / "held-out"), device="cpu").miou == pytest.approx(points[step], abs=1e-6)
    assert json.loads((folder / "validation.json").read_text())["miou"] == pytest.approx(points[6], abs=1e-6)


def test_the_best_of_an_early_step_is_not_that_of_the_end(scored, tmp_path: Path, monkeypatch) -> None:
    """Scores that are given: the greatest twice, so that the earliest must be taken."""
    given = iter([0.2, 0.7, 0.1, 0.7, 0.3, 0.4])
    real = train.__globals__["run"].__globals__["Validation"].score.__globals__["score"]

    def told(segmenter, source):
        import dataclasses

        return dataclasses.replace(real(segmenter, source), miou=next(given))

    monkeypatch.setattr("segtrain.validation.score", told)
    folder = train(scored())
    assert json.loads((folder / "config.json").read_text())["_segtrain"]["best"]["step"] == 2
    assert weights(folder / "best") != weights(folder)
    shorter = train(scored(out=tmp_path / "plain", validation=None, checkpoint_every=2, steps=6))
    assert weights(shorter) == weights(folder), "scoring changes no weight"


@pytest.mark.parametrize("step", [3, 4, 5])
def test_a_killed_training_keeps_the_very_same_best(scored, tmp_path: Path, monkeypatch, step: int) -> None:
    whole = train(scored(out=tmp_path / "whole"))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, step)
        train(scored())
    folder = train(scored())
    for name in ("", "best"):
        assert weights(folder / name) == weights(whole / name)
    assert (folder / "best" / "config.json").read_bytes() == (whole / "best" / "config.json").read_bytes()


def test_a_kill_between_the_two_models_is_mended(scored, tmp_path: Path, monkeypatch) -> None:
    whole = train(scored(out=tmp_path / "whole"))
    import segtrain.loop

    saved = []

    def once(segmenter, folder, **facts):
        if saved:
            raise Killed
        saved.append(folder)
        save_model(segmenter, folder, **facts)

    save_model = segtrain.loop.save_model
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("segtrain.loop.save_model", once)
        train(scored())
    assert saved == [tmp_path / "model" / "best"]
    folder = train(scored())
    for name in ("", "best"):
        assert weights(folder / name) == weights(whole / name)


def test_the_best_of_another_validation_set_is_dropped(
    scored, tmp_path: Path, monkeypatch, write_folder, pairs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 4)
        train(scored())
    other = write_folder(tmp_path / "other", pairs(2))
    folder = train(scored(validation=str(other)))
    assert f"{other}: another validation set than before: the best is chosen anew" in caplog.messages
    best = json.loads((folder / "config.json").read_text())["_segtrain"]["best"]
    assert best["step"] in (5, 6)
    assert evaluate(folder / "best", str(other), device="cpu").miou == pytest.approx(best["miou"], abs=1e-6)


def test_scores_are_shown_and_drawn(scored, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    folder = train(scored(validate_every=3))
    lines = [line for line in caplog.messages if line.startswith("step ") and "mIoU" in line]
    assert [line.split(":")[0] for line in lines] == ["step 3", "step 6"]
    assert lines[0].endswith("held-out, the best so far")
    table = next(message for message in caplog.messages if message.startswith("class"))
    assert "thing" in table and "mIoU" in table and "3 images" in table
    tags = EventAccumulator(str(folder / "tensorboard")).Reload().Tags()["scalars"]
    assert {"validation/miou", "validation/iou/ground", "validation/iou/thing"} <= set(tags)


def test_without_scores_on_the_way_there_is_no_best(scored) -> None:
    folder = train(scored(validate_every=0))
    assert not (folder / "best").exists()
    assert "best" not in json.loads((folder / "config.json").read_text())["_segtrain"]
    assert load_model(folder, "cpu")
    assert list(curve(folder)) == [6]
