"""The benchmark of self-training at a size that shows that it runs, and its arithmetic."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.main import get_command

import segtrain.cli
from benchmarks import camvid as camvid_module
from benchmarks import clouds, clouds_camvid, clouds_data, clouds_pseudo, run
from benchmarks.row import Row
from benchmarks.trainings import Training
from segkit.labels import IGNORE
from segtrain.data.folders import FolderSource
from segtrain.methods.clouds.config import Config

LABELLED_REST = clouds_data.labelled_rest
TINY = clouds.Plan(
    seeds=(0, 1),
    scenes=4,
    generated=4,
    pictures_of_prompts=100,
    test=2,
    steps=4,
    warmup=2,
    batch=4,
    drawn_rates=(),
    network="--encoder resnet18 --decoder-channels 8,8,8,8,8",
    drawn_network="--encoder resnet18 --decoder-channels 8,8,8,8,8",
    labelled_frames=2,
    camvid_steps=3,
    camvid_crop=64,
)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> clouds.Plan:
    """A tiny plan; drawings stand for the generated pictures, and a folder for their shards."""

    def drawn_run(plan: Any, prompts: int, pictures: int) -> Path:
        folder = tmp_path / "runs" / f"prompts-{prompts}"
        if not folder.is_dir():
            clouds_data.write_split(folder / "dataset", "streets", 4, 90_000 + prompts)
        return folder

    def layouts(folder: Path) -> dict[str, np.ndarray]:
        files = sorted((folder / "dataset" / "labels").iterdir())
        return {f"{path.stem}.png": np.asarray(Image.open(path)) for path in files}

    monkeypatch.setattr(clouds_data, "generated_run", drawn_run)
    monkeypatch.setattr(clouds_data, "hidden_layouts", layouts)
    monkeypatch.setattr(clouds_data, "with_layouts", lambda plan, folder: folder / "dataset")
    return dataclasses.replace(TINY, place=tmp_path / "place")


@pytest.fixture
def frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CamVid of a few frames of noise."""
    rng = np.random.default_rng(0)
    sizes = {"train": (("0006R0", 6), ("0016E5", 5), ("0001TP", 2)), "val": (("0016E5", 2),)}
    for split, sequences in sizes.items():
        for part in ("images", "labels"):
            (tmp_path / "camvid" / split / part).mkdir(parents=True)
        for sequence, count in sequences:
            for number in range(count):
                stem = f"{sequence}_{split}{number:03d}"
                image = rng.integers(0, 255, (120, 160, 3), dtype=np.uint8)
                mask = rng.integers(0, 12, (120, 160), dtype=np.uint8)
                Image.fromarray(image).save(tmp_path / "camvid" / split / "images" / f"{stem}.png")
                Image.fromarray(mask).save(tmp_path / "camvid" / split / "labels" / f"{stem}.png")
    monkeypatch.setattr(camvid_module, "CAMVID", tmp_path / "camvid")
    monkeypatch.setattr(clouds_data, "TUNING_FRAMES", 2)
    monkeypatch.setattr(clouds_data, "labelled_rest", clouds_data.rest)


def stems(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "images").iterdir()}


def parsed(words: tuple[str, ...]) -> dict[str, Any]:
    """Of a command line of segtrain, refused as it would be."""
    group = get_command(segtrain.cli.app)
    command = group.whole(words[0])  # type: ignore[attr-defined]
    return dict(command.make_context(words[0], [*words[1:], "--out", "x"]).params)


@pytest.mark.parametrize("way", clouds.DRAWN)
def test_the_command_of_every_way_of_the_drawn_world_is_one(plan: clouds.Plan, way: str) -> None:
    pictures = clouds_data.generated_run(plan, 4, 4) / "dataset"
    values = parsed(clouds.drawn_words(plan, way, pictures, pictures, 0))
    assert values["steps"] == 4 and values["batch_size"] == 4, "equal steps of as many crops"
    assert values["photometric"] is (way != "source"), "what the rows are compared by is no jitter"
    if "{both}" in clouds.DRAWN[way]:
        assert values["source_share"] == 0.5 and len(values["unlabelled"]) == 1
    if way.startswith("sam_"):
        assert Path(values["sam"]).is_dir()


@pytest.mark.parametrize("way", clouds_camvid.WAYS)
def test_the_command_of_every_way_of_camvid_is_one(plan: clouds.Plan, frames: None, way: str) -> None:
    training = clouds_camvid.training(plan, "camvid", way, 0, clouds_camvid.Choice(1e-3))
    values = parsed(training.train)
    assert values["steps"] == 3 and values["learning_rate"] == 1e-3
    assert not values["photometric"], "labelled crops are augmented alike in all rows"
    assert set(training.evaluations) == {"miou", "held_out"}
    assert values.get("unlabelled_share", 0.5) == 0.5 and set(values.get("ratio") or (1.0,)) == {1.0}
    more = clouds_camvid.tuning(plan, "camvid", way, clouds_camvid.Choice(1e-3, 0.75))
    values = parsed(more.train)
    assert values["seed"] == 100 and more.name == f"camvid-tuning-{way}-0.001-0.75"
    if way in clouds_camvid.SHARED:
        assert values.get("unlabelled_share") == 0.75 or tuple(values["ratio"]) == (1.0, 3.0)


def test_the_rate_of_drawn_rows_is_that_which_suits_what_they_are_compared_with(
    plan: clouds.Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a seed and layouts that no row is of; a plan without any keeps its own."""
    said, seen = {"0.001": 0.4, "0.003": 0.5, "0.006": 0.5}, []

    def scores(trainings: Any, place: Path) -> dict[str, Any]:
        seen.extend(trainings)
        domain = {"classes": {}, "miou": 0.0}
        return {one.name: {"test": {"domains": {"rate": one.name.rpartition("-")[2]} | domain}} for one in seen}

    monkeypatch.setattr(clouds, "scores", scores)
    monkeypatch.setattr(clouds, "measures", lambda domains: {"avg5": said[domains["rate"]]})
    assert clouds.tuned(plan) is plan and not seen
    assert clouds.tuned(dataclasses.replace(plan, drawn_rates=(1e-3, 3e-3, 6e-3))).learning_rate == 3e-3
    assert len(seen) == 3
    for training in seen:
        values = parsed(training.train)
        assert values["seed"] == 100 and values["photometric"] and f"{values['learning_rate']:g}" in training.name
        test = Path(training.evaluations["test"][1])
        assert {path.stem.split("_")[0] for path in (test / "images").iterdir()} == {"9000", "9001"}


def test_rate_and_share_are_the_best_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "few": {"0.0005": 0.1, "0.002": 0.2},
        "all_labels": {"0.0005": 0.5, "0.002": 0.3, "0.0005-0.75": 0.4, "0.002-0.75": 0.9},
        "few_photos": {"0.0005": 0.4, "0.002": 0.5, "0.0005-0.75": 0.3, "0.002-0.75": 0.5},
    }
    asked: list[str] = []

    def tuning(plan: Any, setting: str, way: str, one: clouds_camvid.Choice) -> Training:
        return Training(f"{way}:{one}", (), {})

    def scores(trainings: Any, place: Path) -> dict[str, Any]:
        names = [training.name for training in trainings]
        asked.extend(names)
        return {name: {"tuning": {"miou": said[name.split(":")[0]][name.split(":")[1]]}} for name in names}

    monkeypatch.setattr(clouds_camvid, "tuning", tuning)
    monkeypatch.setattr(clouds_camvid, "scores", scores)
    chosen = clouds_camvid._chosen(clouds.Plan(), "camvid", tuple(said))
    assert {way: str(one) for way, one in chosen.items()} == {
        "few": "0.002", "all_labels": "0.002-0.75", "few_photos": "0.002",
    }  # fmt: skip
    assert len(asked) == 2 + 4 + 4


@pytest.mark.parametrize("sequence", [clouds_data.SAME, clouds_data.OTHER])
def test_frames_that_are_tested_are_learnt_by_nobody(plan: clouds.Plan, frames: None, sequence: str) -> None:
    few, rest = clouds_data.few(plan, sequence, 0), clouds_data.rest(plan, sequence, 0)
    assert len(stems(few)) == 2 and len(stems(rest)) == 6 + 5 - 2 and not stems(few) & stems(rest)
    assert all(stem.startswith(sequence) for stem in stems(few))
    learnt = stems(few) | stems(rest)
    assert not learnt & (stems(clouds_data.validation(plan)) | stems(clouds_data.held_out(plan)))
    of_tuning = [part(plan, sequence, 100, 2) for part in (clouds_data.few, clouds_data.rest)]
    tuned = stems(of_tuning[0]) | stems(of_tuning[1])
    assert len(tuned) == 6 + 5 - 2 and len(stems(clouds_data.tuning(plan))) == 2
    assert not tuned & stems(clouds_data.tuning(plan))
    assert stems(clouds_data.few(plan, sequence, 1)) != stems(few)
    mask = FolderSource(few, None).read_mask(0)
    assert mask.shape == (120, 160) and (mask == IGNORE).any() and not (mask == 11).any()


@pytest.mark.slow
def test_label_photos_labels_the_others_from_the_few(
    plan: clouds.Plan, frames: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clouds_data, "labelled_rest", LABELLED_REST)
    made = clouds_data.labelled_rest(plan, clouds_data.OTHER, 0, 2)
    assert stems(made) <= stems(clouds_data.rest(plan, clouds_data.OTHER, 0, 2)) and stems(made)
    masks = FolderSource(made, None)
    assert {masks.read_mask(row).shape for row in range(len(stems(made)))} == {(120, 160)}


def test_drawn_weather_is_of_the_layouts_behind_the_generated_pictures(plan: clouds.Plan) -> None:
    weather, maps = clouds_data.weather(plan), clouds_data.maps(plan, 4)
    assert stems(weather) == stems(maps)
    for stem in stems(maps):
        masks = [np.asarray(Image.open(folder / "labels" / f"{stem}.png")) for folder in (weather, maps)]
        assert (masks[0] == masks[1]).all()
    domains = [(folder / "domains.txt").read_text() for folder in (weather, maps)]
    assert domains[0] != domains[1] and set(domains[1].split()) == {*stems(maps), "day"}


def test_confusion_and_its_scores_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    truth = torch.from_numpy(rng.choice([0, 1, 2, 255], size=(2, 9, 8)))
    said = torch.from_numpy(rng.choice([0, 1, 254, 255], size=(2, 9, 8)))
    counts = clouds_pseudo.confusion(truth, said, 3)
    expected = np.zeros((3, 4), int)
    for t, s in zip(truth.flatten().tolist(), said.flatten().tolist(), strict=True):
        if t < 254:
            expected[t, min(s, 3)] += 1
    assert (counts == expected).all()
    ious = []
    for channel in range(3):
        both = expected[channel, channel]
        union = expected[channel, :3].sum() + expected[:, channel].sum() - both
        ious.append(both / union)
    found = clouds_pseudo.scores_of(counts)
    assert found["miou"] == pytest.approx(np.mean(ious))
    assert found["coverage"] == pytest.approx(expected[:, :3].sum() / expected.sum())


def test_the_words_of_a_way_become_settings(plan: clouds.Plan, tmp_path: Path) -> None:
    config = clouds_pseudo.config_of(plan, "sam_offline", 1, tmp_path / "out")
    assert isinstance(config, Config) and config.crop_px == 64 and config.seed == 1 and not config.teacher_ramp
    assert (config.sam_when, config.uncovered, config.first_joint_step) == ("offline", "ignore", 2)
    assert clouds_pseudo.config_of(plan, "threshold", 0, tmp_path / "out").threshold == 0.968


def test_every_row_is_listed_once() -> None:
    names = [name for path, rows in run.BENCHMARKS.items() if path.startswith("benchmarks.clouds") for name in rows]
    assert len(names) == len(set(names)) > 100


def test_switches_are_measured_beside_the_same_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def rows(plan: clouds.Plan, setting: str, ways: tuple[str, ...]) -> list[Row]:
        asked.append(ways)
        return [Row(name, 0.5, "fraction") for name in clouds_camvid.rows_of(setting, ways)]

    monkeypatch.setattr(clouds_camvid, "rows", rows)
    monkeypatch.setattr(clouds_camvid, "at_hand", lambda: True)
    names = [row.name for row in clouds_camvid.switches()]
    assert sorted(names) == sorted(run.BENCHMARKS["benchmarks.clouds_camvid:switches"])
    assert set(asked[0]) == set(clouds_camvid.WAYS) - {"few_unimatch", "few_clouds", "few_photos"}
    assert {*clouds_camvid.MAIN, *clouds_camvid.SWITCHES} == set(clouds_camvid.WAYS)


@pytest.mark.slow
def test_rows_of_a_tiny_plan_are_those_that_are_listed(
    plan: clouds.Plan, frames: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of some of the ways, with one seed and one rate; the commands of the others are parsed above."""
    drawn, camvid = ("source_jitter", "selftrain", "oracle"), ("few", "few_clouds", "few_photos", "all_labels")
    listed = {*clouds.DRAWN_ROWS, *clouds_camvid.rows_of("camvid")}
    monkeypatch.setattr(clouds, "DRAWN", {way: clouds.DRAWN[way] for way in drawn})
    monkeypatch.setattr(clouds, "GAINED", drawn[1:])
    small = dataclasses.replace(plan, seeds=(0,), rates=(1e-3,))
    made = {row.name: row for row in (*clouds.drawn_rows(small), *clouds_camvid.rows(small, "camvid", camvid))}
    assert set(made) <= listed
    shares, of_camvid = 3, 4 * 3 + 3 * 2 + 2 + 1
    assert len(made) == 3 * len(clouds.DOMAINS) + 2 * 2 + 1 + shares + of_camvid
    assert made["clouds/camvid/labels_of_photos_miou"].value == 1.0, "here those labels are true"
    gain = number(made["clouds/selftrain_avg5"]) - number(made["clouds/source_jitter_avg5"])
    assert made["clouds/gain/selftrain_avg5"].value == pytest.approx(gain)
    again = {row.name: row for row in clouds_camvid.rows(small, "camvid", camvid)}  # from what was kept
    assert all(made[name] == row for name, row in again.items())
    assert {row.name for row in clouds.prompt_rows(small)} == set(clouds.PROMPT_ROWS)
    monkeypatch.setattr(clouds, "WEATHER", drawn[1:])
    weather = {row.name: row for row in clouds.weather_rows(small)}
    assert set(weather) <= set(clouds.WEATHER_ROWS) and len(weather) == 2 * 4
    gain = number(weather["clouds/weather/oracle_adverse"]) - number(made["clouds/source_jitter_adverse"])
    assert weather["clouds/weather/gain_oracle_adverse"].value == pytest.approx(gain)


@pytest.mark.slow
def test_pseudo_labels_and_costs_are_measured_at_a_tiny_size(plan: clouds.Plan) -> None:
    made = {row.name: row for row in clouds_pseudo.pseudo_rows(plan)}
    assert set(made) == set(clouds.PSEUDO_ROWS)
    assert made["clouds/pseudo/teacher_coverage_end"].value == 1.0
    assert {row.name for row in clouds_pseudo.cost_rows(plan, rounds=2, steps=2)} == set(clouds.COST_ROWS)


def number(row: Row) -> float:
    assert isinstance(row.value, float)
    return row.value
