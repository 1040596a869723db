"""Rounds with a trainer that is told what to score; runs are real ones of the tiny recipe."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from doubles.world import MORE_WORDS

from synthgen import pipeline
from synthgen.errors import InputError, RunError
from synthgen.improve import rounds, trainer
from synthgen.improve.rounds import Plan, best_of, improve
from synthgen.recipe import Recipe
from synthgen.stages import names, stages

FIRST = {"disc": 0.9, "square": 0.8, "bar": 0.3}


class Trainer:
    """Stands for segtrain: remembers what it was given and scores as it was told, round after round."""

    def __init__(self, *miou: float) -> None:
        self.miou, self.trained = miou, []

    def train(self, options: Any, data: Sequence[str], ratio: Sequence[float], out: Path, extra: Sequence[str]) -> None:
        self.trained.append((options, [Path(place).parent.name for place in data], list(ratio)))
        model_folder(out)

    def score(self, model: Path, validation: str, by_domain: bool, into: Path, extra: Sequence[str]) -> Any:
        number = int(into.stem.rpartition("-")[2])
        classes = [{"name": name, "iou": iou, "pixels": 10} for name, iou in FIRST.items()]
        scores = {"format": "segtrain-scores", "miou": self.miou[number], "classes": classes, "domains": []}
        into.write_text(json.dumps(scores))
        return trainer.read_scores(into)


def model_folder(folder: Path, num_sources: int = 1, ratio: Sequence[float] = ()) -> Path:
    folder.mkdir(parents=True)
    settings = {"arch": "Unet", "crop_px": 32, "steps": 3, "decoder_channels": [8, 8], "init_from": None}
    (folder / "settings.json").write_text(
        json.dumps({**settings, "ratio": list(ratio), "sources": [{}] * num_sources, "label_space": {}})
    )
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def make() -> Callable[[Recipe, Path], None]:
    def whole(recipe: Recipe, folder: Path) -> None:
        pinned, _ = pipeline.begin(recipe, folder)
        for name in names():
            for _ in pipeline.run_stage(pinned, folder, name):
                pass

    return whole


@pytest.fixture
def started(finished: Path, tmp_path: Path, monkeypatch) -> Callable[..., tuple[Plan, Trainer]]:
    def start(*miou: float, num_sources: int = 1, ratio: Sequence[float] = (), **changes: Any) -> tuple[Plan, Trainer]:
        acting = Trainer(*miou)
        monkeypatch.setattr(trainer, "train", acting.train)
        monkeypatch.setattr(trainer, "score", acting.score)
        model = tmp_path / "model"
        if not model.exists():
            model_folder(model, num_sources, ratio)
        (tmp_path / "words.yaml").write_text(MORE_WORDS)  # the run's own are used up by it
        words = f"prompts.source.vocabulary={tmp_path / 'words.yaml'}"
        return Plan(finished, model, "held-out", tmp_path / "out", sets=(words,), **changes), acting

    return start


def test_a_round_makes_more_of_what_is_weak_and_nothing_again(started, make) -> None:
    plan, acting = started(0.6, 0.7, rounds=1, images=10)
    [one] = list(improve(plan, make))
    asked = Counter(row.subject.class_name for row in stages(plan.out / "run-1")["prompts"].rows())
    assert asked == {"bar": 7, "square": 2, "disc": 1}  # as 1 - IoU: .7, .2, .1
    assert one.need.classes["bar"] > one.need.classes["square"] > one.need.classes["disc"]
    before = {row.subject.prompt for row in stages(plan.run)["prompts"].rows()}
    assert not before & {row.subject.prompt for row in stages(plan.out / "run-1")["prompts"].rows()}
    assert acting.trained == [
        ({"arch": "Unet", "crop": 32, "steps": 3, "decoder_channels": "8,8"}, ["tiny", "run-1"], [])
    ]
    assert (one.miou, round(one.gain, 6), one.stops) == (0.7, 0.1, "the last round that was asked for")
    assert best_of(plan, [one]) == plan.out / "model-1"


def test_rounds_end_where_they_gain_too_little_and_the_best_is_named(started, make) -> None:
    plan, acting = started(0.6, 0.7, 0.704, 0.9, rounds=5, images=3, min_gain=0.005)
    made = list(improve(plan, make))
    assert [one.stops for one in made] == ["", "a gain below 0.5 points"]
    assert [words[1] for words in acting.trained] == [["tiny", "run-1"], ["tiny", "run-1", "run-2"]]
    assert best_of(plan, made) == plan.out / "model-2", "best is best, however little it gained"
    told = json.loads((plan.out / "improve.json").read_text())
    assert [one["miou"] for one in told["rounds"]] == [0.7, 0.704]


def test_a_gain_is_over_the_best_and_the_given_model_may_be_it(started, make) -> None:
    plan, _ = started(0.6, 0.5, rounds=2, images=3)
    made = list(improve(plan, make))
    assert (len(made), round(made[0].gain, 6), best_of(plan, made)) == (1, -0.1, plan.model)


def test_a_gain_of_just_the_least_one_goes_on(started, make) -> None:
    plan, _ = started(0.5, 0.75, 1.0, rounds=2, images=3, min_gain=0.25)
    assert [one.stops for one in improve(plan, make)] == ["", "the last round that was asked for"]


def test_shares_of_other_sources_stay_and_that_of_the_run_is_divided(started, make) -> None:
    plan, acting = started(0.6, 0.7, rounds=1, images=6, num_sources=2, ratio=(3.0, 1.0), beside=("photographs/x",))
    list(improve(plan, make))
    _, data, ratio = acting.trained[0]
    assert data == ["photographs", "tiny", "run-1"]
    assert ratio[0] == 3.0 and sum(ratio[1:]) == pytest.approx(1.0)
    sizes = [rounds._num_samples(run) for run in (plan.run, plan.out / "run-1")]
    assert ratio[1] / ratio[2] == pytest.approx(sizes[0] / sizes[1])


def test_a_launch_that_was_killed_goes_on_and_others_are_refused(started, make) -> None:
    plan, acting = started(0.6, 0.7, 0.8, rounds=2, images=3)

    def killed(recipe: Recipe, folder: Path) -> None:
        if folder.name == "run-2":
            raise KeyboardInterrupt
        make(recipe, folder)

    with pytest.raises(KeyboardInterrupt):
        list(improve(plan, killed))
    first = sorted(path.name for path in (plan.out / "run-1" / "dataset").iterdir())

    def again(*words: Any) -> None:
        pass  # a training that is finished is not done again: segtrain sees to it

    model_of = acting.train
    acting.train = again
    trainer.train = lambda options, data, ratio, out, extra: (
        None
        if out.exists()
        else model_of(  # type: ignore[assignment]
            options, data, ratio, out, extra
        )
    )
    assert [one.miou for one in improve(plan, make)] == [0.7, 0.8]
    assert sorted(path.name for path in (plan.out / "run-1" / "dataset").iterdir()) == first
    other, _ = started(0.6, 0.7, rounds=2, images=4)
    with pytest.raises(RunError, match="holds rounds with another images"):
        list(improve(other, make))


def test_what_cannot_be_improved_is_told_before_anything_is_made(started, make, finished: Path, tmp_path: Path) -> None:
    plan, _ = started(0.6, 0.7, rounds=1, num_sources=2)
    with pytest.raises(InputError, match=r"learnt from 2 sources.*1 in all, 0 are given"):
        list(improve(plan, make))
    (plan.model / "config.json").unlink()
    with pytest.raises(InputError, match="no finished model of `segtrain train`"):
        list(improve(plan, make))
    (finished / "dataset" / "index.json").unlink()
    with pytest.raises(RunError, match="has no dataset yet"):
        list(improve(plan, make))
    (finished / "recipe.lock.yaml").unlink()
    with pytest.raises(RunError, match="is not a run folder"):
        list(improve(plan, make))
    assert not plan.out.exists()


def test_a_folder_of_somebody_elses_is_left_alone(started, make) -> None:
    plan, _ = started(0.6, 0.7, rounds=1)
    plan.out.mkdir()
    (plan.out / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match=r"holds files, but no improve\.json"):
        list(improve(plan, make))
    assert [path.name for path in plan.out.iterdir()] == ["letter.txt"]
    (plan.out / "letter.txt").unlink()
    plan.out.rmdir()
    plan.out.write_text("dear")
    with pytest.raises(RunError, match="cannot be a folder of rounds"):
        list(improve(plan, make))
    assert plan.out.read_text() == "dear"
