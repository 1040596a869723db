"""`segtrain train` on labels that may be wrong: confidence, small-loss selection, the first data alone, comparison."""

from __future__ import annotations

import json
import logging
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from segtrain.cli import app
from segtrain.config import checked
from segtrain.data.mixture import Mixture, open_sources
from segtrain.errors import ConfigError
from segtrain.evaluate import evaluate, open_validation
from segtrain.loop import Training
from segtrain.methods.supervised import method
from segtrain.methods.supervised.comparison import compare
from segtrain.methods.supervised.config import Config
from segtrain.methods.supervised.method import order, pixel_weights, train, unsure_cross_entropy
from segtrain.run_folder import outcome
from segtrain.segmenter import load_model


@pytest.fixture
def mixed(settings, tmp_path: Path, write_folder, write_shards, pairs):
    """A labelled folder, then a dataset with confidences (.784 on the ground, .353 on things)."""
    photos, made = write_folder(tmp_path / "photos", pairs(3)), write_shards(tmp_path / "made", pairs(5))

    def make(**changes: Any) -> Config:
        values = settings().model_dump() | {"data": [str(photos), str(made)], "ratio": [1, 1]}
        return checked(Config, values | changes)

    return make


def batches(config: Config) -> list[Any]:
    sources, space = open_sources(config)
    data = Mixture(sources, space, config, confidence=config.confidence != "ignore", mixed=order(sources, config))
    return [data.batch(step) for step in range(config.steps)]


def test_weights_are_the_confidences_and_labels_without_one_are_sure(mixed) -> None:
    for batch in batches(mixed(confidence="weight", scale_min=1, scale_max=1)):
        weights = pixel_weights(batch, mixed(confidence="weight"))
        for source, target, of_crop in zip(batch.sources, batch.targets, weights, strict=True):
            labelled = target < 254
            expected = torch.ones(()) if source == 0 else torch.where(target == 1, 90 / 255, 200 / 255)
            assert torch.allclose(of_crop[labelled], expected.expand(target.shape)[labelled])


@pytest.mark.parametrize(("threshold", "things", "ground"), [(90 / 255, 1.0, 1.0), (0.36, 0.0, 1.0), (0.9, 0.0, 0.0)])
def test_a_threshold_leaves_out_what_is_below_it(mixed, threshold: float, things: float, ground: float) -> None:
    config = mixed(confidence="threshold", confidence_threshold=threshold, scale_min=1, scale_max=1)
    for batch in batches(config):
        weights = pixel_weights(batch, config)
        for source, target, of_crop in zip(batch.sources, batch.targets, weights, strict=True):
            for channel, wanted in ((0, ground), (1, things)):
                assert (of_crop[target == channel] == (1.0 if source == 0 else wanted)).all()


@pytest.mark.parametrize("keep", [1.0, 0.8, 0.29, 0.0])
def test_the_loss_is_that_of_a_loop_over_pixels(keep: float) -> None:
    rng = np.random.default_rng(3)
    logits = torch.from_numpy(rng.normal(size=(3, 4, 5, 6)).astype(np.float32))
    targets = torch.from_numpy(rng.choice([0, 1, 2, 3, 254, 255], (3, 5, 6)).astype(np.uint8))
    weights = torch.from_numpy(rng.random((3, 5, 6)).astype(np.float32))
    others = torch.tensor([False, True, True])
    trusted, rest = [], []
    for n in range(3):
        for y in range(5):
            for x in range(6):
                label = int(targets[n, y, x])
                if label < 254:
                    exps = np.exp(logits[n, :, y, x].double().numpy())
                    entry = (-math.log(exps[label] / exps.sum()), float(weights[n, y, x]))
                    (rest if n else trusted).append(entry)
    rest = sorted(rest)[: math.floor(keep * len(rest) + 1e-9)]
    learnt = trusted + rest
    expected = sum(loss * weight for loss, weight in learnt) / len(learnt)
    assert unsure_cross_entropy(logits, targets, weights, others, keep).item() == pytest.approx(expected, rel=1e-5)


def test_a_batch_without_labels_is_0_and_no_nan() -> None:
    logits = torch.zeros(2, 3, 4, 4, requires_grad=True)
    void = torch.full((2, 4, 4), 255, dtype=torch.uint8)
    loss = unsure_cross_entropy(logits, void, torch.ones(2, 4, 4), torch.tensor([False, True]), 0.5)
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and not logits.grad.any()


def test_the_first_data_alone_then_the_mix(mixed) -> None:
    config = mixed(first_share=0.5, steps=8)
    sources = [set(batch.sources.tolist()) for batch in batches(config)]
    assert sources[:4] == [{0}] * 4 and all(1 in found for found in sources[4:])


def test_all_others_in_their_ratio_then_the_first_data_alone(mixed) -> None:
    three = mixed(data=[*mixed().data, mixed().data[1]], ratio=[5, 1, 3], others_first=0.75, steps=16)
    numbers = order(open_sources(three)[0], three)
    assert numbers.shape == (16, three.batch_size) and not numbers[12:].any() and (numbers[:12] > 0).all()
    assert (numbers[:12] == 2).mean() == pytest.approx(0.75, abs=2 / numbers[:12].size)
    assert [set(batch.sources.tolist()) for batch in batches(mixed(others_first=0.5, steps=4))] == [{1}, {1}, {0}, {0}]
    for share in (0.01, 0.99):
        assert [set(batch.sources.tolist()) for batch in batches(mixed(others_first=share, steps=2))] == [{1}, {0}]


def test_neutral_settings_are_those_of_a_training_before_there_were_any(mixed, settings, tmp_path: Path) -> None:
    plain = settings(data=list(mixed().data), ratio=[1, 1])
    assert mixed(compare=True, validation=mixed().data[0]).weight_settings() == plain.weight_settings()
    one = train(plain)
    two = train(mixed(out=tmp_path / "two"))
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()
    other = train(mixed(out=tmp_path / "three", confidence="weight"))
    assert (one / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


def test_compare_tells_what_the_others_are_worth(
    mixed, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = mixed(compare=True, validation=mixed().data[0], keep=0.8, first_share=0.2)
    with caplog.at_level(logging.INFO):
        out = train(config)
    told = json.loads((out / "comparison.json").read_text())
    all_miou, alone_miou = (
        json.loads((folder / "validation.json").read_text())["miou"] for folder in (out, out / "first-alone")
    )
    assert told == {"miou": {"all": all_miou, "first_alone": alone_miou}, "gain": all_miou - alone_miou}
    assert outcome(out)["comparison"] == told, "what --json says"
    words = "do not help" if all_miou <= alone_miou else "the others give"
    assert words in caplog.text and f"{alone_miou:.4f} with the first alone" in caplog.text
    mix = json.loads((out / "first-alone" / "config.json").read_text())["_segtrain"]["mix"]
    assert [entry["source"] for entry in mix] == ["photos"]
    runs: list[Path] = []

    def watched(training: Training, made: Any) -> Path:
        runs.append(training.config.out)
        return training.config.out

    monkeypatch.setattr(method, "run", watched)
    train(config)
    assert runs == [out, out / "first-alone"], "both are asked again, and each knows that it is finished"


def test_a_first_data_without_classes_borrows_them_in_the_comparison_too(
    mixed, tmp_path: Path, write_folder, pairs
) -> None:
    held_out = write_folder(tmp_path / "held-out", pairs(2))
    (Path(mixed().data[0]) / "labels.yaml").unlink()
    out = train(mixed(compare=True, validation=str(held_out), steps=2))
    settings = [json.loads((folder / "settings.json").read_text()) for folder in (out, out / "first-alone")]
    assert settings[0]["label_space"] == settings[1]["label_space"]
    assert (out / "comparison.json").is_file()


def test_a_set_that_does_not_help_is_a_warning(
    mixed, caplog: pytest.LogCaptureFixture, tiny_model: Path, write_folder, pairs, tmp_path: Path
) -> None:
    held_out = write_folder(tmp_path / "held-out", pairs(2))
    identity = open_validation(held_out, load_model(tiny_model, "cpu").label_space).identity
    for name, miou in (("a", 0.5), ("b", 0.5), ("c", 0.4), ("void", None)):
        shutil.copytree(tiny_model, tmp_path / name)
        (tmp_path / name / "validation.json").write_text(json.dumps({"miou": miou, "identity": identity}))
    compare(tmp_path / "a", tmp_path / "b", str(held_out), "cpu")
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "+0.0000" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        compare(tmp_path / "a", tmp_path / "c", str(held_out), "cpu")
    assert [record.levelname for record in caplog.records] == ["INFO"] and "+0.1000" in caplog.text
    caplog.clear()
    compare(tmp_path / "a", tmp_path / "void", str(held_out), "cpu")
    assert "nothing can be said" in caplog.text
    assert json.loads((tmp_path / "a" / "comparison.json").read_text())["gain"] is None


@pytest.mark.parametrize("earlier", [None, "other"])
def test_a_training_that_had_finished_is_compared_on_the_set_that_is_asked_for(
    mixed, tmp_path: Path, write_folder, pairs, earlier: str | None
) -> None:
    """Hours of the second training would end in an error if the first had no --validate; and scores on two sets of
    images tell nothing of each other."""
    held_out = str(write_folder(tmp_path / "held-out", pairs(2)))
    other = write_folder(tmp_path / "other", pairs(1, (24, 32)))
    train(mixed(validation=earlier and str(other), steps=2))
    out = train(mixed(compare=True, validation=held_out, steps=2))
    told = json.loads((out / "comparison.json").read_text())["miou"]
    folders = {"all": out, "first_alone": out / "first-alone"}
    assert told == {name: evaluate(folder, held_out, device="cpu").miou for name, folder in folders.items()}


def test_classes_for_another_data_do_not_stop_the_training_on_the_first_alone(
    mixed, tmp_path: Path, write_folder, pairs
) -> None:
    """They are fewer than those that the first --data brings itself."""
    first, second = (write_folder(tmp_path / name, pairs(2)) for name in ("first", "second"))
    (second / "labels.yaml").rename(tmp_path / "labels.yaml")
    space = yaml.safe_load((first / "labels.yaml").read_text())
    space["labels"].append({"id": 7, "name": "tree"})
    (first / "labels.yaml").write_text(yaml.safe_dump(space))
    data = {"data": [str(first), str(second)], "classes": tmp_path / "labels.yaml"}
    out = train(mixed(**data, compare=True, validation=str(first), steps=2))
    assert (out / "comparison.json").is_file()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"keep": 0.8}, "keep is about every --data but the first"),
        ({"first_share": 0.5}, "first_share is about every --data but the first"),
        ({"others_first": 0.5}, "others_first is about every --data but the first"),
        ({"compare": True, "validation": "v"}, "compare is about every --data but the first"),
    ],
)
def test_with_one_data_there_is_nothing_to_treat(settings, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        checked(Config, settings().model_dump() | changes)


def test_mistakes_are_one_line(mixed, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="compare needs --validate"):
        mixed(compare=True)
    with pytest.raises(ConfigError, match="begins with one or the other, set one to 0"):
        mixed(first_share=0.2, others_first=0.2)
    with pytest.raises(ConfigError, match="one of masks, not of pixels"):
        train(mixed(arch="clip_masks", encoder="RN50", confidence="weight"))
    data = [word for folder in mixed().data for word in ("--data", folder)]
    result = CliRunner().invoke(app, ["train", *data, "--out", str(tmp_path / "o"), "--keep", "1.5"])
    assert result.exit_code == 2 and result.stderr.startswith("segtrain: keep:") and result.stderr.count("\n") == 1
