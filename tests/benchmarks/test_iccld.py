"""The benchmark of ICCLD at a size that shows that it runs, and its rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from benchmarks import camvid, iccld, run
from benchmarks.trainings import Training
from segkit.pictures import read_image
from synthgen.drawn import streets
from synthgen.images import write_image

TINY = iccld.Plan(
    seeds=(0,), scenes=3, test=2, steps=2, labelled=2, network="--encoder resnet18 --decoder-channels 8,8,8,8,8"
)


def test_each_gain_is_one_switch() -> None:
    for with_it, without in iccld.GAINS.values():
        assert {with_it, without} <= set(iccld.VARIANTS)
    words = {
        name: set(iccld.VARIANTS[name].split())
        for name in ("diffusion_source", "intercoder", "target_seen", "adversarial", "full")
    }
    assert words["diffusion_source"] - words["intercoder"] == {"--no-intercoder"}
    assert words["intercoder"] - words["target_seen"] == {"--no-adversary"}
    assert words["target_seen"] - words["adversarial"] == {"--adversary-weight", "0"}
    assert words["adversarial"] - words["full"] == {"--no-self-training"}


def test_every_row_has_as_many_labelled_crops_of_the_source() -> None:
    def crops(variant: str) -> str:
        words = iccld._words(TINY, "night", variant, 0, 1e-3, Path("source"), Path("target"))
        return words[words.index("--batch-size") + 1]

    assert {crops("ce_source"), crops("ce_jitter")} == {"2"}
    assert {crops(variant) for variant in iccld.VARIANTS if variant not in ("ce_source", "ce_jitter")} == {"4"}


def test_every_teacher_remembers_as_much_of_a_short_training() -> None:
    def words(variant: str) -> tuple[str, ...]:
        return iccld._words(TINY, "night", variant, 0, 1e-3, Path("source"), Path("target"))

    asks = {variant for variant in iccld.VARIANTS if "--teacher-decay" in words(variant)}
    assert asks == {"ce_selftrain", "target_seen", "adversarial", "full"}
    assert {words(variant)[-2:] for variant in asks} == {("--teacher-decay", "0.99")}


def test_targets_and_tests_are_of_the_weather_that_is_named(tmp_path: Path) -> None:
    plan = dataclasses.replace(TINY, place=tmp_path)
    folder = iccld._scenes(plan, "t", 7, 5, iccld.ADVERSE)
    assert not (folder / "domains.txt").exists()
    for number, domain in enumerate((*iccld.ADVERSE, "night")):
        write_image(streets.draw(7 + number, domain=domain).image, tmp_path / "one.png")
        assert (folder / "images" / f"streets_{7 + number:08d}.png").read_bytes() == (tmp_path / "one.png").read_bytes()


def test_a_rate_is_chosen_for_each_way_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a seed and layouts that no row is of."""
    best = {
        "ce_source": {2e-3: 0.9},
        "ce_selftrain": {1.6e-2: 0.8},
        "full": {5e-4: 0.4},
        "diffusion_source": {4e-3: 0.3},
    }
    seen: list[Training] = []

    def scores(trainings: list[Training], place: Path) -> dict[str, dict[str, dict[str, float]]]:
        seen.extend(trainings)
        found = {}
        for training in trainings:
            way, rate = training.name.removeprefix("tuning-").split("-", 1)
            found[training.name] = {"test": {"miou": best[way].get(float(rate), 0.1)}}
        return found

    monkeypatch.setattr(iccld, "scores", scores)
    plan = dataclasses.replace(TINY, place=tmp_path)
    assert iccld.chosen(plan) == {"ce_source": 2e-3, "ce_selftrain": 1.6e-2, "diffusion_source": 4e-3, "full": 5e-4}
    assert len(seen) == 5 + 3 + 4 + 3
    for training in seen:
        assert training.train[training.train.index("--seed") + 1] == "100"
        test = Path(training.evaluations["test"][1])  # type: ignore[index]
        assert {path.stem for path in (test / "images").iterdir()} == {"streets_00000000", "streets_00000001"}
    assert {way: iccld.tuned_as(way) for way in iccld.TUNED} == {way: way for way in iccld.TUNED}
    assert {iccld.tuned_as(way) for way in ("ce_jitter", "oracle")} == {"ce_source"}
    assert {iccld.tuned_as(way) for way in ("intercoder", "target_seen", "adversarial")} == {"diffusion_source"}


@pytest.mark.slow
def test_rows_of_a_tiny_plan_are_those_that_are_listed(tmp_path: Path) -> None:
    plan = dataclasses.replace(TINY, place=tmp_path, rates=dict.fromkeys(iccld.TUNED, (1e-3,)))
    made = {row.name: row for row in iccld.drawn_rows(plan, "night")}
    assert set(made) == set(run.BENCHMARKS["benchmarks.iccld:night"])
    assert {row.name for row in iccld.rate_rows(plan)} == set(run.BENCHMARKS["benchmarks.iccld:tuning"])
    full, rival = made["iccld/night/full_miou"].value, made["iccld/night/ce_selftrain_miou"].value
    assert isinstance(full, float) and isinstance(rival, float)
    assert made["iccld/night/gain_full_over_rival"].value == pytest.approx(full - rival)


def test_photographs_of_camvid_are_learnt_by_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source is the two day sequences, target and test the dusk one: whatever is trained on them."""
    if not camvid.at_hand():
        pytest.skip(f"no CamVid in {camvid.CAMVID}")
    seen: list[Training] = []

    def scores(trainings: list[Training], place: Path) -> dict[str, dict[str, dict[str, float]]]:
        seen.extend(trainings)
        return {training.name: {"test": {"miou": 0.5}} for training in trainings}

    monkeypatch.setattr(iccld, "scores", scores)
    rows = {row.name for row in iccld.camvid_rows(dataclasses.replace(TINY, place=tmp_path))}
    assert rows == set(run.BENCHMARKS["benchmarks.iccld:camvid"])
    words = next(training.train for training in seen if training.name == "camvid_dusk-full-seed0")
    source, target = (Path(words[words.index(flag) + 1]) for flag in ("--data", "--unlabelled"))
    assert {path.name.split("_")[0] for path in (source / "images").iterdir()} == {"0006R0", "0016E5"}
    assert {path.name.split("_")[0] for path in (target / "images").iterdir()} == {"0001TP"}
    assert read_image(next((source / "images").iterdir())).shape == (120, 160, 3)
