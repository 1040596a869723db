from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from segkit.labels import Label, LabelSpace
from segkit.networks.folder import NetworkSpec
from segtrain.data.formats import open_dataset
from segtrain.data.shards import ShardSource
from segtrain.data.source import Source
from segtrain.errors import ConfigError, DataError
from segtrain.evaluate import evaluate, open_validation, score
from segtrain.metrics.few_shot import few_shot_scores
from segtrain.segmenter import Segmenter, build_segmenter, save_model

GOLDEN_SPACE = LabelSpace(
    "golden",
    (Label(7, "disc"), Label(0, "ground"), Label(50, "never"), Label(3, "box")),
    background=0,
)


class ByGreen(torch.nn.Module):
    """Stands for a network: the channel is the green of the pixel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        green = (images[:, 1] * 0.224 * 255 + 0.456 * 255).round().long()
        return torch.nn.functional.one_hot(green, 4).permute(0, 3, 1, 2).float()


@pytest.fixture
def noisy(tmp_path: Path, write_folder) -> tuple[Source, list[np.ndarray], list[np.ndarray]]:
    """Ten samples of four sizes whose images hold a prediction in their green; with the true and the predicted ids."""
    rng = np.random.default_rng(3)
    true, guessed, pairs = [], [], []
    for number in range(10):
        size = [(20, 30), (32, 32), (9, 40), (31, 7)][number % 4]
        true.append(rng.choice([0, 0, 3, 7, 254, 255], size=size).astype(np.uint8))
        channels = rng.choice([0, 1, 1, 3], size=size)
        guessed.append(np.array([7, 0, 50, 3])[channels])
        pairs.append((np.stack([channels] * 3, axis=2).astype(np.uint8), true[-1]))
    classes = [{"id": c.id, "name": c.name, "colour": [0, 0, 0]} for c in GOLDEN_SPACE.labels]
    return open_dataset(write_folder(tmp_path / "noisy", pairs, classes=classes), "", None), true, guessed


def test_iou_against_counting_pixels_one_class_at_a_time(noisy) -> None:
    source, true, guessed = noisy
    scores = score(Segmenter(ByGreen(), NetworkSpec({}), GOLDEN_SPACE, torch.device("cpu")), source)
    t, g = (np.concatenate([mask.ravel() for mask in masks]) for masks in (true, guessed))
    t, g = t[t < 254], g[t < 254]
    expected = {i: (np.sum((t == i) & (g == i)) / np.sum((t == i) | (g == i))) for i in (0, 3, 7)}
    for c in scores.classes:
        assert c.iou == (None if c.id == 50 else pytest.approx(expected[c.id]))
        assert c.pixels == np.sum(t == c.id)
    assert scores.miou == pytest.approx(np.mean(list(expected.values())))
    assert scores.foreground_miou == pytest.approx((expected[3] + expected[7]) / 2)
    assert scores.pixel_accuracy == pytest.approx(np.mean(t == g))
    assert scores.num_images == 10


def test_a_class_that_is_only_predicted_counts_as_zero(tmp_path: Path, write_folder) -> None:
    image, mask = np.full((8, 8, 3), 1, np.uint8), np.zeros((8, 8), np.uint8)
    image[0, 0] = 2
    image[7, :4], mask[7, :4] = 3, 3
    classes = [{"id": c.id, "name": c.name, "colour": [0, 0, 0]} for c in GOLDEN_SPACE.labels]
    source = open_dataset(write_folder(tmp_path / "d", [(image, mask)], classes=classes), "", None)
    scores = score(Segmenter(ByGreen(), NetworkSpec({}), GOLDEN_SPACE, torch.device("cpu")), source)
    assert [c.iou for c in scores.classes] == [None, 59 / 60, 0.0, 1.0]
    assert scores.miou == pytest.approx((59 / 60 + 1) / 3)
    assert scores.foreground_miou == 1 / 2
    assert scores.few_shot == ()


def test_a_perfect_prediction_scores_one_everywhere(tmp_path: Path, write_folder) -> None:
    channels = np.kron(np.random.default_rng(0).choice([0, 1, 3], (4, 5)), np.ones((8, 8), int))
    mask = np.array([7, 0, 50, 3])[channels].astype(np.uint8)
    classes = [{"id": c.id, "name": c.name, "colour": [0, 0, 0]} for c in GOLDEN_SPACE.labels]
    pairs = [(np.stack([channels] * 3, 2).astype(np.uint8), mask)]
    source = open_dataset(write_folder(tmp_path / "d", pairs, classes=classes), "", None)
    scores = score(Segmenter(ByGreen(), NetworkSpec({}), GOLDEN_SPACE, torch.device("cpu")), source)
    assert scores.miou == scores.foreground_miou == scores.pixel_accuracy == scores.boundary_f == 1
    assert (
        "mIoU 100.00  (mIoU over classes present in ground truth or prediction; pixels with id 254 or 255 excluded)"
        in scores.table()
    )


def test_evaluate_reads_datasets_and_folders_alike(
    settings, golden: Path, tmp_path: Path, write_folder, caplog: pytest.LogCaptureFixture
) -> None:
    source = ShardSource(golden, "")
    model = tmp_path / "model"
    model.mkdir()
    save_model(build_segmenter(settings(), source.label_space, torch.device("cpu")), model)
    folder = write_folder(tmp_path / "f", [(s.image, s.mask) for s in map(source.read, range(4))], label_space=False)
    from_shards, from_folder = evaluate(model, golden, device="cpu"), evaluate(model, folder, device="cpu")
    assert from_shards.split == "validation"
    assert from_folder.split == "all"
    assert from_shards.classes == from_folder.classes
    assert evaluate(model, golden, split="train", device="cpu").num_images == 8
    assert not caplog.records
    assert evaluate(model, folder, split="train", device="cpu").num_images == 4
    [told] = [record.getMessage() for record in caplog.records]
    assert told == f"{folder}: has no splits: all of it is scored, not train alone"
    named = evaluate(model, golden, device="cpu", novel=("disc",)).few_shot
    iou = {c.name: c.iou for c in from_shards.classes}
    assert [(s.convention, s.base, s.novel) for s in named[:2]] == [
        (name, iou["box"], iou["disc"]) for name in ("diam", "bam")
    ]
    with pytest.raises(ConfigError, match=r"novel: 'tram' is not a class of the model; classes: box, disc"):
        evaluate(model, golden, device="cpu", novel=("tram",))


def test_data_with_a_class_that_the_model_has_not_is_refused(golden: Path) -> None:
    with pytest.raises(DataError, match=r"class 'disc' \(id 7\) does not go with label space 'small': it has no id 7"):
        open_validation(golden, LabelSpace("small", (Label(0, "ground"), Label(3, "box"))))


def test_a_set_without_a_labelled_pixel_is_an_error_and_no_score(settings, tmp_path: Path, write_folder, pairs) -> None:
    source = open_dataset(write_folder(tmp_path / "f", pairs(1)), "", None)
    segmenter = build_segmenter(settings(), source.label_space, torch.device("cpu"))
    (tmp_path / "model").mkdir()
    save_model(segmenter, tmp_path / "model")
    void = [(image, np.where(np.arange(32) < 9, 254, 255 + mask * 0).astype(np.uint8)) for image, mask in pairs(2)]
    folder = write_folder(tmp_path / "void", void)
    with pytest.raises(DataError, match=r"void: no pixel of the 2 images shows a class of 'toy': every"):
        evaluate(tmp_path / "model", folder, device="cpu")
    scores = score(segmenter, open_dataset(folder, "", None))
    assert scores.miou is scores.foreground_miou is scores.pixel_accuracy is scores.boundary_f is None
    assert [line for line in scores.table().splitlines() if line.startswith(("mIoU -", "boundary F -"))][1:]
    assert json.loads(json.dumps(scores.to_json()))["miou"] is None


def test_a_perfect_prediction_without_foreground_has_no_foreground_score(tmp_path: Path, write_folder) -> None:
    classes = [{"id": c.id, "name": c.name, "colour": [0, 0, 0]} for c in GOLDEN_SPACE.labels]
    image, mask = np.full((8, 8, 3), 1, np.uint8), np.zeros((8, 8), np.uint8)
    source = open_dataset(write_folder(tmp_path / "f", [(image, mask)], classes=classes), "", None)
    scores = score(Segmenter(ByGreen(), NetworkSpec({}), GOLDEN_SPACE, torch.device("cpu")), source)
    assert (scores.miou, scores.pixel_accuracy, scores.foreground_miou, scores.boundary_f) == (None, 1, None, None)
    assert "foreground mIoU -" in scores.table()


IOU = {"background": 0.9, "cat": 0.6, "dog": 0.4, "bus": 0.2}


def test_few_shot_conventions() -> None:
    found = {s.convention: s for s in few_shot_scores(IOU, ["bus"], "background")}
    for convention, base, mean in (("diam", 0.5, 0.35), ("bam", 0.5, 0.4), ("pop", 1.9 / 3, 2.1 / 4)):
        scores = found[convention]
        assert (scores.base, scores.novel, scores.mean) == pytest.approx((base, 0.2, mean))
        assert scores.harmonic == pytest.approx(2 * base * 0.2 / (base + 0.2))


@pytest.mark.parametrize(
    ("novel", "says"),
    [
        (["tram"], "'tram' is not a class that occurs; classes: cat, dog, bus"),
        (["background"], "'background' is not"),
        ([], "no class is given"),
        (["cat", "dog", "bus"], "no base class is left"),
    ],
)
def test_few_shot_refuses_what_has_no_meaning(novel: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        few_shot_scores(IOU, novel, "background")


def test_few_shot_harmonic_of_nothing_is_zero() -> None:
    assert {s.harmonic for s in few_shot_scores({"a": 0.0, "b": 0.0}, ["b"], None)} == {0}
