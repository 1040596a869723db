"""Scores of a model that samples its answers."""

from __future__ import annotations

import dataclasses
import json
import math
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from segkit.labels import label_space_of
from segkit.networks.folder import NetworkSpec, create_network
from segkit.networks.latent_diffusion import Context, LatentDiffusionNetwork
from segtrain.cli import app
from segtrain.evaluate_samples import evaluate_samples
from segtrain.metrics.iou import ConfusionMatrix
from segtrain.segmenter import Segmenter, load_model, save_model

SPACE = label_space_of(
    {"name": "three", "background": 0, "labels": [{"id": n, "name": name} for n, name in enumerate("abc")]}, "here"
)
ARGUMENTS = {
    "_model_class": "FPN",
    "encoder_name": "resnet18",
    "encoder_weights": None,
    "in_channels": 3,
    "classes": 3,
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    spec = NetworkSpec(ARGUMENTS, "latent_diffusion", {"bits": 2, "width": 16, "scale": 1.0})
    network = create_network(spec)
    torch.nn.init.normal_(network.get_submodule("label_decoder.classifier").weight, std=2.0)
    save_model(Segmenter(network, spec, SPACE, torch.device("cpu")), _made(tmp_path / "model"))
    return tmp_path / "model"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder, rng = tmp_path / "data", np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for name in ("one", "two"):
        Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(folder / "images" / f"{name}.png")
        mask = rng.integers(0, 3, (64, 96), dtype=np.uint8)
        mask[:8] = 255
        Image.fromarray(mask).save(folder / "labels" / f"{name}.png")
    (folder / "labels.yaml").write_text(json.dumps(SPACE.to_json()), encoding="utf-8")
    return folder


def test_each_sample_and_their_mean_are_scored(model: Path, data: Path, tmp_path: Path) -> None:
    report = evaluate_samples(model, data, 3, maps=tmp_path / "maps")
    segmenter = load_model(model)
    images = [np.asarray(Image.open(data / "images" / f"{name}.png")) for name in ("one", "two")]
    masks = [np.asarray(Image.open(data / "labels" / f"{name}.png")) for name in ("one", "two")]
    answers = segmenter.predict_samples(images, 3)
    for number in range(3):
        matrix = ConfusionMatrix([0, 1, 2])
        for (_, _, samples), mask in zip(answers, masks, strict=True):
            matrix.add(samples[number], mask)
        assert report.miou_of_samples[number] == pytest.approx(matrix.mean_iou())
    assert report.spread == pytest.approx(np.std(report.miou_of_samples, ddof=1))
    differ = np.concatenate([((s != s[0]).any(axis=0))[m != 255] for (_, _, s), m in zip(answers, masks, strict=True)])
    assert report.disagreement == pytest.approx(differ.mean()) and 0 < report.disagreement < 1
    drawn = np.asarray(Image.open(tmp_path / "maps" / "one.png"))
    assert np.abs(drawn / 255 * math.log(3) - answers[0][1]).max() < 0.01


def test_the_first_sample_is_the_answer_of_predict(model: Path, data: Path) -> None:
    segmenter = load_model(model)
    image = np.asarray(Image.open(data / "images" / "one.png"))
    [(_, _, samples)] = segmenter.predict_samples([image], 2)
    assert np.array_equal(samples[0], segmenter.predict([image])[0])


def test_the_mean_and_its_entropy_are_of_all_samples(model: Path, data: Path) -> None:
    segmenter = load_model(model)
    image = np.asarray(Image.open(data / "images" / "one.png"))
    pixels = segmenter.normalised(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])
    network = segmenter.network.eval()
    with torch.inference_mode():
        mean = torch.stack(list(network.samples(pixels, 4))).mean(dim=0)[0].double().numpy()  # type: ignore[operator]
    [(mask, entropy, samples)] = segmenter.predict_samples([image], 4)
    assert samples.shape == (4, 64, 96) and samples.dtype == np.uint8
    assert (mask == mean.argmax(axis=0)).mean() > 0.999  # all but equals
    assert np.allclose(entropy, -(mean * np.log(mean)).sum(axis=0), atol=1e-4)


@pytest.mark.parametrize("answer", ["samples", "forward"])
def test_the_probabilities_of_earlier_samples_are_let_go(
    model: Path, data: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """Of a picture of Cityscapes with 19 classes they are 160 MB each."""
    segmenter = load_model(model)
    network = segmenter.network
    assert isinstance(network, LatentDiffusionNetwork)
    network.shape = dataclasses.replace(network.shape, samples=8)
    alive: list[weakref.ref[torch.Tensor]] = []
    most, sample = 0, network.sample

    def counted(context: Context, noise: torch.Tensor) -> torch.Tensor:
        nonlocal most
        most = max(most, sum(ref() is not None for ref in alive))
        logits = sample(context, noise)
        alive.append(weakref.ref(logits))
        return logits

    softmax = torch.Tensor.softmax

    def counted_softmax(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        made = softmax(self, *args, **kwargs)
        alive.append(weakref.ref(made))
        return made

    monkeypatch.setattr(network, "sample", counted)
    monkeypatch.setattr(torch.Tensor, "softmax", counted_softmax)
    image = np.asarray(Image.open(data / "images" / "one.png"))
    if answer == "samples":
        segmenter.predict_samples([image], 8)
    else:
        segmenter.predict([image])
    assert len(alive) == 16
    assert most <= 2


def test_the_command_prints_and_writes_them(model: Path, data: Path, tmp_path: Path) -> None:
    words = ["eval", "--model", str(model), "--data", str(data), "--samples", "2", "--json", str(tmp_path / "s.json")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "spread" in done.output and "n 2" in done.output
    assert len(json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["samples"]["miou_of_samples"]) == 2


def test_options_of_other_scores_are_refused(model: Path, data: Path) -> None:
    words = ["eval", "--model", str(model), "--data", str(data), "--samples", "2", "--by-domain"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "--by-domain has no meaning with --samples" in done.output


def test_a_network_with_one_answer_is_named(tmp_path: Path, data: Path) -> None:
    spec = NetworkSpec(ARGUMENTS)
    save_model(Segmenter(create_network(spec), spec, SPACE, torch.device("cpu")), _made(tmp_path / "plain"))
    done = CliRunner().invoke(app, ["eval", "--model", str(tmp_path / "plain"), "--data", str(data), "--samples", "2"])
    assert done.exit_code == 2
    assert "has one answer only" in done.output


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
