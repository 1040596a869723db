"""Both stages on folders and shards, killed and continued, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
import yaml
from doubles.killed_training import Killed, kill_at, weights
from typer.testing import CliRunner, Result

from segtrain.cli import app
from segtrain.config import checked
from segtrain.errors import ConfigError, DataError, ModelError, RunError
from segtrain.evaluate import evaluate
from segtrain.methods.few_shot.base_learning import learn_base
from segtrain.methods.few_shot.config import BaseConfig, NovelConfig
from segtrain.methods.few_shot.novel_learning import learn_novel
from segtrain.segmenter import load_model


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


CLASSES = [{"id": i, "name": n, "colour": [0, 0, 40 * i]} for i, n in enumerate(("ground", "red", "green", "blue"))]
TINY: dict[str, Any] = {
    "crop_px": 32,
    "batch_size": 4,
    "checkpoint_every": 2,
    "device": "cpu",
    "learning_rate": 3e-3,
    "num_threads": 1,
}
NETWORK: dict[str, Any] = {"arch": "Unet", "encoder": "tu-test_efficientnet", "decoder_channels": "8,8,8,8,8"}


def squares(count: int, classes: tuple[int, ...], seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Noise with one square of a class: its colour is the class's."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        class_id = classes[number % len(classes)]
        image, mask = rng.integers(0, 60, (32, 32, 3)).astype(np.uint8), np.zeros((32, 32), np.uint8)
        top, left = rng.integers(0, 14, 2)
        mask[top : top + 16, left : left + 16] = class_id
        image[mask == class_id, class_id - 1] = 230
        made.append((image, mask))
    return made


@pytest.fixture
def world(tmp_path: Path, write_folder) -> Path:
    """A labelled folder with a label space of its own, as `synthgen draw` writes it."""
    folder = write_folder(tmp_path / "drawn", squares(24, (1, 2, 3)), label_space=False)
    (folder / "labels.yaml").write_text(yaml.safe_dump({"name": "colours", "background": 0, "labels": CLASSES}))
    return folder


@pytest.fixture
def base(world: Path, tmp_path: Path) -> Callable[..., BaseConfig]:
    def make(**changes: Any) -> BaseConfig:
        return checked(
            BaseConfig,
            {
                "data": [str(world)],
                "out": tmp_path / "base",
                "novel": ["blue"],
                "steps": 6,
                **TINY,
                **NETWORK,
                **changes,
            },
        )

    return make


@pytest.fixture
def novel(world: Path, tmp_path: Path) -> Callable[..., NovelConfig]:
    def make(**changes: Any) -> NovelConfig:
        values = {
            "data": [str(world)],
            "base_model": tmp_path / "base",
            "out": tmp_path / "novel",
            "steps": 6,
            "shots": 2,
            **TINY,
            **changes,
        }
        return checked(NovelConfig, values)

    return make


def test_it_learns_base_and_novel_classes(base, novel, world: Path, tmp_path: Path, write_shards) -> None:
    made = write_shards(tmp_path / "made", squares(8, (3,), seed=5), name="colours", classes=CLASSES)
    learn_base(base(steps=90, learning_rate=1e-2, validation=str(world)))
    first = load_model(tmp_path / "base", "cpu")
    assert [c.name for c in first.label_space.labels] == ["ground", "red", "green"]
    scores = json.loads((tmp_path / "base" / "validation.json").read_text())
    assert scores["miou"] > 0.8
    assert scores["num_images"] == 24, "images of novel classes are background there, not left out"
    folder = learn_novel(novel(steps=200, learning_rate=1e-2, synthetic=[str(made)], validation=str(world)))
    own = json.loads((folder / "config.json").read_text())["_segtrain"]
    assert own["pop"] == {"num_base": 2, "num_novel": 1} and own["novel"] == ["blue"]
    assert len(own["shots"]) == 2 and all((world / "images" / shot).is_file() for shot in own["shots"])
    assert [source["kind"] for source in own["mix"]] == ["real", "synthetic", "base"]
    drawn = [source["drawn"] for source in own["mix"]]
    assert drawn[2] == 800 and abs(drawn[0] - 400) <= 2 and drawn[0] + drawn[1] == 800
    few_shot = {s.convention: s for s in evaluate(folder, world, device="cpu").few_shot}
    assert set(few_shot) == {"diam", "bam", "pop"}
    # after 80 steps .14 or .21, by what the processor rounds; after 200 .56
    assert few_shot["diam"].novel > 0.2, "blue squares are found from two shots"
    assert few_shot["diam"].base > 0.6, "and red and green are not forgotten"
    assert json.loads((folder / "validation.json").read_text())["few_shot"]["diam"]["novel"] == few_shot["diam"].novel


@pytest.mark.parametrize("step", [1, 5])
def test_both_stages_go_on_after_a_kill_to_the_very_same_weights(
    base, novel, tmp_path: Path, monkeypatch, step: int
) -> None:
    whole_base = weights(learn_base(base(out=tmp_path / "whole")))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, step)
        learn_base(base())
    assert weights(learn_base(base())) == whole_base
    whole = weights(learn_novel(novel(out=tmp_path / "whole-novel")))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, step)
        learn_novel(novel())
    assert weights(learn_novel(novel())) == whole
    assert weights(learn_novel(novel(num_workers=1, out=tmp_path / "other"))) == whole
    assert weights(learn_novel(novel(shots_seed=1, out=tmp_path / "other-shots"))) != whole
    frozen = load_model(tmp_path / "base", "cpu").network.state_dict()
    after = load_model(tmp_path / "novel", "cpu").network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in frozen.items())


def test_shots_from_a_folder_of_ones_own(base, novel, tmp_path: Path, write_folder) -> None:
    learn_base(base(steps=1))
    support = write_folder(tmp_path / "support", squares(3, (3, 3, 1), seed=9), label_space=False)
    own = json.loads((learn_novel(novel(steps=1, support=str(support))) / "config.json").read_text())["_segtrain"]
    assert own["shots"] == ["f0000.png", "f0001.png"], "the third shows no novel class"


def test_what_the_stages_refuse(base, novel, tmp_path: Path, write_folder) -> None:
    with pytest.raises(
        ConfigError, match=r"novel class 'tram' is not in label space 'colours', which has blue, green, ground, red"
    ):
        learn_base(base(novel=["tram"]))
    with pytest.raises(ConfigError, match=r"novel class 'aeroplane' is not in label space 'colours'"):
        learn_base(base(novel=[], folds="pascal-5i"))
    with pytest.raises(ConfigError, match=r"settings: give either --folds \(and --fold\) or --novel"):
        base(folds="pascal-5i")
    with pytest.raises(ModelError, match=r"base: not a finished model of `segtrain few-shot base`"):
        learn_novel(novel())
    learn_base(base(steps=1))
    with pytest.raises(RunError, match=r"base: holds a finished training of 1 steps, not 2"):
        learn_base(base(steps=2))
    with pytest.raises(RunError, match=r'novel\[0\] = "blue", not "red"'):
        learn_base(base(steps=1, novel=["red"]))
    with pytest.raises(DataError, match=r"class 'blue' \(id 3\): 8 images show enough of it, 9 are to be shots"):
        learn_novel(novel(shots=9))
    others = write_folder(tmp_path / "others", squares(2, (1,)), label_space=False)
    with pytest.raises(DataError, match=r"synthetic: none of 2 images shows a novel class \(blue\)"):
        learn_novel(novel(synthetic=[str(others)]))
    with pytest.raises(DataError, match=r"others: no image shows novel class 'blue' \(id 3\): add one"):
        learn_novel(novel(support=str(others)))
    with pytest.raises(ModelError, match=r"novel: not a finished model of `segtrain few-shot base`"):
        learn_novel(novel(base_model=learn_novel(novel(steps=1)), out=tmp_path / "again"))


def test_the_command_line(world: Path, tmp_path: Path) -> None:
    tiny = ["--crop", 32, "--batch-size", 2, "--device", "cpu", "--steps", 1]
    network = ["--arch", "Unet", "--encoder", "tu-test_efficientnet", "--decoder-channels", "8,8,8,8,8"]
    result = run("few-shot", "base", "--data", world, "--novel", "blue", "--out", tmp_path / "b", *tiny, *network)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(tmp_path / "b")
    stage = [
        "few-shot",
        "novel",
        "--base-model",
        tmp_path / "b",
        "--data",
        world,
        "--out",
        tmp_path / "n",
        "--no-relabel-base",
        *tiny,
    ]
    result = run(*stage)
    assert result.exit_code == 0, result.output
    result = run("eval", "--model", tmp_path / "n", "--data", world, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert [line[:4] for line in result.stdout.splitlines()[-4:-1]] == ["diam", "bam ", "pop "]
    result = run(*stage, "--relabel-base")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "relabel_base = false, not true" in result.stderr
    for words, says in (
        (
            ["base", "--data", world, "--out", tmp_path / "x", "--folds", "voc", *tiny],
            "segtrain: folds 'voc': not known; there are: ",
        ),
        (["base", "--data", world, "--out", tmp_path / "x", *tiny], "segtrain: settings: give either --folds"),
        (
            ["base", "--data", tmp_path / "no", "--novel", "a", "--out", tmp_path / "x"],
            f"segtrain: {tmp_path / 'no'}: no such folder",
        ),
        (
            ["novel", "--base-model", world, "--data", world, "--out", tmp_path / "x"],
            f"segtrain: {world}: not a finished model",
        ),
    ):
        result = run("few-shot", *words)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
        assert result.stderr.startswith(says)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("stage", "kind"), [("base", BaseConfig), ("novel", NovelConfig)])
def test_every_setting_is_an_option_and_the_help_has_an_example(
    stage: str, kind: type[BaseConfig] | type[NovelConfig]
) -> None:
    result = run("few-shot", stage, "--help")
    assert result.exit_code == 0
    assert f"segtrain few-shot {stage} " in " ".join(result.stdout.split())
    command = typer.main.get_command(app).whole("few-shot").commands[stage]  # type: ignore[attr-defined]
    options = {parameter.name: parameter for parameter in command.params}
    for name, field in kind.model_fields.items():
        option = options[{"crop_px": "crop", "validation": "validate"}.get(name, name)]
        assert option.help == field.description
        if not field.is_required():
            assert (option.default or None) == (field.default or None)
