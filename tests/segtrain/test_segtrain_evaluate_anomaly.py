"""`segtrain eval --anomaly`: pooled scores, maps, alarms, benchmark folders, mistakes of users."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

import synthgen.cli
from segkit.labels import read_label_space
from segtrain.cli import app
from segtrain.data.formats import open_dataset
from segtrain.errors import DataError
from segtrain.evaluate_anomaly import AnomalyOptions, evaluate_anomaly
from segtrain.methods.supervised.method import train
from segtrain.metrics.anomaly import ScoreHistogram
from segtrain.metrics.components import Components
from segtrain.metrics.iou import ConfusionMatrix
from segtrain.segmenter import load_model

ROOT = Path(__file__).parents[2]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def model(settings, tmp_path: Path, write_folder, pairs) -> Path:
    data = write_folder(tmp_path / "train", pairs(3))
    changes = {"arch": "FPN", "decoder_channels": "", "steps": 2}
    return train(settings(data=[str(data)], out=tmp_path / "model", **changes))


@pytest.fixture
def scenes(tmp_path: Path, write_folder) -> Path:
    """Six pictures of three sizes, none a multiple of 32; some unknown, some void."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(6):
        size = [(40, 50), (33, 64), (70, 35)][number % 3]
        mask = rng.choice([0, 5], size=size).astype(np.uint8)
        mask[4:14, 6:20], mask[-5:] = 254, 255
        made.append((rng.integers(0, 256, (*size, 3), dtype=np.uint8), mask))
    return write_folder(tmp_path / "scenes", made)


def test_drawn_streets_with_unknown_objects_are_a_test_set(settings, tmp_path: Path) -> None:
    def draw(name: str, *more: str) -> str:
        words = ("draw", str(tmp_path / name), "--world", "streets", "--count", "2", "--seed", "5", *more)
        made = CliRunner().invoke(synthgen.cli.app, words)
        assert made.exit_code == 0, made.output
        return str(tmp_path / name)

    changes = {"arch": "FPN", "decoder_channels": "", "steps": 2}
    model = train(settings(data=[draw("day", "--domain", "day")], out=tmp_path / "model", **changes))
    known, unknown = draw("known"), draw("unknown", "--intruders", "1", "--held-out", "--unknown")
    for data in (known, unknown):
        scored = run(
            "eval", "--model", model, "--data", data, "--anomaly", "--json", tmp_path / "s.json", "--device", "cpu"
        )
        assert scored.exit_code == 0, scored.output
        scores = json.loads((tmp_path / "s.json").read_text())["anomaly"]
        assert (scores["unknown"]["auroc"] is not None) == (data == unknown) and scores["miou"] is not None


def test_the_splits_of_all_sets_are_named(model: Path, scenes: Path, write_shards, pairs, tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", pairs(2))
    report = evaluate_anomaly(model, [shards, scenes, scenes], device="cpu")
    assert (report.num_images, report.split) == (14, "train, all")


def test_scores_are_those_of_the_energy_of_each_picture(model: Path, scenes: Path) -> None:
    """A plain model has no head of its own: its energy is scored. Each picture alone, in an order of our own."""
    segmenter = load_model(model, "cpu")
    source = open_dataset(scenes, "", segmenter.label_space)
    histogram, matrix = ScoreHistogram(), ConfusionMatrix([0, 5])
    for row in (5, 0, 3, 1, 4, 2):
        sample = source.read(row)
        ((prediction, uncertainty),) = segmenter.predict_with_uncertainty([sample.image])
        assert uncertainty.shape == sample.mask.shape and uncertainty.dtype == np.float32
        assert np.array_equal(prediction, segmenter.predict([sample.image])[0])
        histogram.add(uncertainty, sample.mask)
        matrix.add(prediction, sample.mask)
    report = evaluate_anomaly(model, scenes, device="cpu", options=AnomalyOptions("nearest"))
    expected = histogram.scores("nearest")
    for name in ("auroc", "ap", "fpr95", "unknown_pixels", "known_pixels"):
        assert getattr(report.unknown, name) == pytest.approx(getattr(expected, name), abs=2e-3), name
    assert report.miou == matrix.mean_iou() and report.pixel_accuracy == matrix.pixel_accuracy
    assert report.unknown.unknown_pixels == 6 * 140


def test_every_table_names_its_rule(model: Path, scenes: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores.json"
    command = ["eval", "--model", model, "--data", scenes, "--anomaly", "--device", "cpu", "--json", scores]
    for rule in ("first", "nearest"):
        result = run(*command, "--rule", rule)
        assert result.exit_code == 0 and f"(rule {rule}, threshold " in result.stdout
        stored = json.loads(scores.read_text())
        assert stored["anomaly"]["unknown"]["rule"] == rule and "pooled" in stored["convention"]
        assert all(0 <= stored["anomaly"]["unknown"][name] <= 1 for name in ("auroc", "ap", "fpr95"))


def test_whole_objects_are_scored_at_the_threshold_of_greatest_f1(model: Path, scenes: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores.json"
    command = ["eval", "--model", model, "--data", scenes, "--anomaly", "--device", "cpu"]
    result = run(*command, "--components", "--min-segment", 3, "--min-object", 20, "--json", scores)
    assert result.exit_code == 0 and "sIoU " in result.stdout and "8-connected" in result.stdout
    found = json.loads(scores.read_text())["anomaly"]["components"]
    segmenter, histogram = load_model(model, "cpu"), ScoreHistogram()
    source = open_dataset(scenes, "", segmenter.label_space)
    samples = [source.read(row) for row in range(6)]
    maps = [segmenter.predict_with_uncertainty([sample.image])[0][1] for sample in samples]
    for uncertainty, sample in zip(maps, samples, strict=True):
        histogram.add(uncertainty, sample.mask)
    counted = Components(found["threshold"], 3, 20)
    for uncertainty, sample in zip(maps, samples, strict=True):
        counted.add(uncertainty, sample.mask)
    assert found["threshold"] == pytest.approx(histogram.best_f1_threshold(), rel=1e-3) and found["objects"] == 6
    assert found["siou"] == pytest.approx(counted.scores().siou, abs=5e-3)
    result = run(*command, "--min-segment", 3)
    assert result.exit_code == 2 and "--min-segment and --min-object are sizes of --components" in result.stderr


def test_maps_are_one_scale_for_all_pictures(model: Path, scenes: Path, tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    report = evaluate_anomaly(model, scenes, device="cpu", options=AnomalyOptions(maps=maps))
    assert report.maps is not None
    black, white = report.maps
    segmenter, source = load_model(model, "cpu"), open_dataset(scenes, "", None)
    assert sorted(path.name for path in maps.iterdir()) == [f"f{row:04d}.png" for row in range(6)]
    for row in range(6):
        ((_, uncertainty),) = segmenter.predict_with_uncertainty([source.read(row).image])
        expected = ((uncertainty - black) / (white - black)).clip(0, 1) * 255
        with Image.open(maps / f"f{row:04d}.png") as image:
            assert image.mode == "L" and np.abs(np.asarray(image) - expected).max() <= 1
    result = run("eval", "--model", model, "--data", scenes, "--anomaly", "--maps", maps, "--device", "cpu")
    assert result.exit_code == 2 and "is not empty: name a new folder for the maps" in result.stderr


def test_alarms_of_bad_weather_above_the_threshold_of_another_set(
    model: Path, scenes: Path, tmp_path: Path, write_folder, pairs
) -> None:
    threshold = evaluate_anomaly(model, scenes, device="cpu").unknown.threshold
    weather = write_folder(tmp_path / "weather", pairs(3))
    report = evaluate_anomaly(model, weather, device="cpu", options=AnomalyOptions(alarm_threshold=threshold))
    assert report.unknown.auroc is None and report.unknown.ap is None and report.miou is not None
    segmenter, source = load_model(model, "cpu"), open_dataset(weather, "", None)
    answers = segmenter.predict_with_uncertainty([source.read(row).image for row in range(3)])
    expected = np.mean([uncertainty >= threshold for _, uncertainty in answers])
    assert report.alarms == pytest.approx(expected, abs=1e-3)
    assert "alarms" in report.table() and "  -" in report.table()


def test_mistakes_are_one_line(model: Path, scenes: Path, tmp_path: Path, write_folder, pairs) -> None:
    command: list[Any] = ["eval", "--model", model, "--data", scenes, "--device", "cpu"]
    void = write_folder(tmp_path / "void", [(image, np.full_like(mask, 255)) for image, mask in pairs(2)])
    other = [{"id": 0, "name": "ground"}, {"id": 5, "name": "sky"}]
    foreign = write_folder(tmp_path / "foreign", pairs(1), classes=other)
    for arguments, says in (
        ([*command, "--anomaly", "--rule", "best"], "rule 'best': there are: first, nearest"),
        ([*command, "--rule", "nearest"], "--rule, --alarm-threshold and --components belong to --anomaly"),
        ([*command, "--maps", tmp_path / "m"], "belong to --anomaly"),
        ([*command, "--anomaly", "--novel", "thing"], "--novel has no meaning with --anomaly"),
        ([*command, "--anomaly", "--tile", "64"], "--tile has no meaning with --anomaly"),
        ([*command, "--anomaly", "--overlap", "64"], "--overlap has no meaning with --anomaly"),
        ([*command[:4], void, *command[5:], "--anomaly"], "every pixel of its 2 images is 255 (unlabelled)"),
        ([*command[:4], foreign, *command[5:], "--anomaly"], "class 'sky' (id 5) does not go with label space"),
    ):
        result = run(*arguments)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
        assert says in result.stderr


# benchmarks


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 1), (90, 90, 90)).save(path)


def ids(path: Path, values: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([values], np.uint8)).save(path)


BENCHMARKS = {
    "road_anomaly": ("frames/a.jpg", "frames/a.labels/labels_semantic.png", [0, 1, 2, 2, 0, 0], [0, 0, 254, 254, 0, 0]),
    "road_anomaly_repacked": ("original/a.jpg", "labels/a.png", [0, 1, 1, 0, 0, 0], [0, 254, 254, 0, 0, 0]),
    "smiyc": ("images/v1.webp", "labels_masks/v1_labels_semantic.png", [0, 1, 255, 0, 0, 1], [0, 254, 255, 0, 0, 254]),
    "muad": ("leftImg8bit/x.png", "leftLabel/x.png", [0, 18, 19, 20, 21, 255], [0, 18, 254, 254, 255, 255]),
    "muad_suffixes": (
        "leftImg8bit/x_leftImg8bit.png",
        "leftLabel/x_leftLabel.png",
        [0, 18, 19, 20, 21, 255],
        [0, 18, 254, 254, 255, 255],
    ),
    "acdc_poc": (
        "rgb_anon_trainvaltest/rgb_anon/fog/val/GP01/f1.png",
        "gt_trainval/gt/fog/val/GP01/f1.png",
        [0, 7, 33, 100, 124, 9],
        [255, 0, 18, 254, 254, 255],
    ),
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks_are_read_as_they_are_unpacked(name: str, tmp_path: Path) -> None:
    image, mask, stored, expected = BENCHMARKS[name]
    picture(tmp_path / image)
    ids(tmp_path / mask, stored)
    source = open_dataset(tmp_path, "", None)
    sample = source.read(0)
    assert sample.mask.tolist() == [expected] == source.read_mask(0).tolist()
    assert sample.image.shape == (1, 6, 3) and source.name(0) == Path(image).name
    assert source.label_space.name == ("anomaly" if name.startswith(("road", "smiyc")) else "cityscapes")
    (tmp_path / image).unlink()
    with pytest.raises(DataError, match=r"its image .* is missing: unpack the dataset again"):
        open_dataset(tmp_path, "", None)


def test_an_id_that_a_benchmark_does_not_have_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "images/v1.jpg")
    ids(tmp_path / "labels_masks/v1_labels_semantic.png", [0, 1, 2, 0, 0, 0])
    with pytest.raises(DataError, match="id 2 is none of smiyc: unpack the dataset again"):
        open_dataset(tmp_path, "", None).read(0)


def test_a_set_that_only_says_what_is_unknown_has_no_miou(model: Path, tmp_path: Path) -> None:
    picture(tmp_path / "smiyc/images/v1.jpg")
    ids(tmp_path / "smiyc/labels_masks/v1_labels_semantic.png", [0, 1, 255, 0, 0, 1])
    report = evaluate_anomaly(model, tmp_path / "smiyc", device="cpu")
    assert report.miou is None and report.unknown.auroc is not None and report.unknown.known_pixels == 3


@pytest.mark.parametrize("name", ["anomaly", "cityscapes"])
def test_label_spaces_of_both_packages_agree(name: str) -> None:
    theirs = read_label_space(ROOT / "prompts" / name / "labels.yaml")
    ours = read_label_space(ROOT / "segtrain" / "data" / "label_spaces" / f"{name}.yaml")
    assert [(c.id, c.name, c.colour) for c in ours.labels] == [(c.id, c.name, c.colour) for c in theirs.labels]
    assert ours.name == theirs.name and yaml.safe_load((ROOT / "prompts" / name / "labels.yaml").read_text())
