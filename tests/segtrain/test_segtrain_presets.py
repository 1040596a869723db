"""Options from files, the files that are shipped, and trainings that only try themselves out."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from segkit.labels import read_label_space
from segkit.networks.folder import NetworkSpec, create_network
from segkit.networks.latent_diffusion import LatentDiffusionNetwork
from segtrain import presets
from segtrain.cli import app
from segtrain.errors import ConfigError
from segtrain.method_group import methods
from segtrain.methods.iccld.config import Config

ROOT = Path(__file__).parents[2]
SMALL = "--encoder tu-test_efficientnet --encoder-weights none --crop 64 --batch-size 2 --num-threads 1 --device cpu"
OF_PRESET = {  # what makes it small enough to try out
    "flex-seg.gta5": f"{SMALL} --arch Unet --decoder-channels 8,8,8,8,8 --no-fd",
    "iccld.gta5-cityscapes": f"{SMALL} --arch Unet --decoder-channels 8,8,8,8,8 --form light --width 16",
}
MINI_SAM = ROOT / "synthgen" / "minis" / "weights" / "sam"
for clouds in ("clouds.gta5", "clouds.cityscapes"):  # the frozen tower under Mask2Former's head, of few channels
    OF_PRESET[clouds] = (
        f"--encoder RN50 --encoder-weights none --mask-queries 8 --mask-width 32 --mask-layers 1 --crop 64 "
        f"--batch-size 4 --num-threads 1 --device cpu --sam {MINI_SAM}"
    )
OF_PRESET |= {f"iccld.synthia-cityscapes-{n}": OF_PRESET["iccld.gta5-cityscapes"] for n in (13, 16)}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the folders that the presets name, two pictures each, and classes that all know."""
    rng = np.random.default_rng(0)
    ids = np.array(read_label_space(ROOT / "segtrain" / "presets" / "cityscapes-13.labels.yaml").ids, np.uint8)
    unlabelled = ("cityscapes-train-images", "runs/clouds/dataset")
    for name in ("gta5", "synthia", "cityscapes", "runs/flexseg/dataset", *unlabelled):
        labelled = name not in unlabelled
        for number in range(2):
            pixels = rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)
            mask = np.repeat(np.repeat(rng.choice(ids, (12, 16)), 8, axis=0), 8, axis=1)
            for part, array in (("images", pixels), ("labels", mask)) if labelled else ((".", pixels),):
                (tmp_path / name / part).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(tmp_path / name / part / f"{number}.png")
        if name in ("gta5", "cityscapes", "runs/flexseg/dataset"):
            shutil.copy(ROOT / "prompts" / "cityscapes" / "labels.yaml", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything_shipped() -> list[tuple[str, str]]:
    files = sorted((ROOT / "segtrain" / "presets").glob("*.*.yaml"))
    return [tuple(path.stem.split(".", 1)) for path in files if not path.name.endswith("labels.yaml")]


def test_the_shipped_presets_are_those_of_existing_commands() -> None:
    for command, name in everything_shipped():
        assert command.replace("-", "_") in methods()
        assert name in presets.shipped(command)
    assert {".".join(found) for found in everything_shipped()} == set(OF_PRESET)


@pytest.mark.parametrize(("command", "name"), everything_shipped())
def test_a_shipped_preset_tries_itself_out_and_writes_nothing(
    command: str, name: str, world: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = sorted(world.rglob("*"))
    with caplog.at_level(logging.INFO):
        result = run(command, "--preset", name, "--dry-run", *OF_PRESET[f"{command}.{name}"].split())
    assert result.exit_code == 0, result.output
    assert sorted(world.rglob("*")) == before
    steps = 15000 if name == "cityscapes" else 80000 if command == "clouds" else 40000
    assert "dry run: " in caplog.text and f"one of {steps} steps took" in caplog.text


def test_latent_diffusion_goes_on_the_encoders_of_its_presets() -> None:
    """Those of the files: the dry runs above take a smaller one."""
    options = {*Config.model_fields, "crop"}
    named = {presets.read_preset(name, "iccld", options)["encoder"] for name in presets.shipped("iccld")}
    for encoder in named:
        arguments = {
            "_model_class": Config.model_fields["arch"].default,
            "encoder_name": encoder,
            "encoder_weights": None,
            "in_channels": 3,
            "classes": 19,
        }
        network = create_network(NetworkSpec(arguments, "latent_diffusion", {"bits": 5}))
        assert isinstance(network, LatentDiffusionNetwork)


@pytest.mark.slow
def test_the_preset_of_gta5_at_its_full_size(world: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Segformer MiT-B5 at 512 px with the feature distance; only the download of its weights is left out."""
    for folder in ("gta5", "runs/flexseg/dataset"):
        for path in (world / folder).rglob("*.png"):
            Image.open(path).resize((1280, 720), Image.Resampling.NEAREST).save(path)
    with caplog.at_level(logging.INFO):
        result = run("flex-seg", "--preset", "gta5", "--dry-run", "--encoder-weights", "none", "--no-fd")
    assert result.exit_code == 0, result.output
    [line] = [text for text in caplog.messages if text.startswith("dry run")]
    assert int(line.split()[2]) > 80e6


def test_what_is_given_wins_over_the_preset(world: Path, caplog: pytest.LogCaptureFixture) -> None:
    (world / "own.yaml").write_text(
        "command: train\ndata: [gta5]\nout: model\nsteps: 7\nencoder: resnet18\ndecoder-channels: 8,8,8,8,8\n"
    )
    with caplog.at_level(logging.INFO):
        assert run("train", "--preset", "own.yaml", "--dry-run", "--steps", 9, *SMALL.split()).exit_code == 0
        assert "one of 9 steps" in caplog.text
        caplog.clear()
        assert run("train", "--preset", "own.yaml", "--dry-run", *SMALL.split()).exit_code == 0
        assert "one of 7 steps" in caplog.text
    assert run("train", "--preset", "own.yaml", "--steps", 1, *SMALL.split()).exit_code == 0
    assert (world / "model" / "model.safetensors").is_file()


def test_a_list_may_be_written_as_yaml_has_it_and_one_value_needs_none(world: Path) -> None:
    for name, data, channels in (("lists", "[gta5]", "[8, 8, 8, 8, 8]"), ("values", "gta5", "8,8,8,8,8")):
        (world / f"{name}.yaml").write_text(
            f"command: train\ndata: {data}\nout: {name}\nsteps: 1\ndecoder-channels: {channels}\nratio: 2\n"
        )
        result = run("train", "--preset", f"{name}.yaml", *SMALL.split())
        assert result.exit_code == 0, result.output
    settings = [(world / name / "settings.json").read_text() for name in ("lists", "values")]
    assert settings[0] == settings[1] and json.loads(settings[0])["decoder_channels"] == [8] * 5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("command: train\nstepz: 7\n", "'stepz' is no option of `segtrain train`"),
        ("command: eval\nsteps: 7\n", "command: 'eval': this is `segtrain train`"),
        ("steps: 7\n", "command: None: this is `segtrain train`"),
        ("- 1\n", "is no mapping of options to values"),
        ("command: train\nsteps: {a: 1}\n", "steps: {'a': 1} is neither a value nor a list of values"),
        ("command: train\nsteps: ~\n", "steps: None is neither a value nor a list of values"),
        ("command: train\nsteps: 7\nsteps: 8\n", "cannot be read as YAML"),
    ],
)
def test_a_bad_preset_is_one_line(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    result = run("train", "--preset", path)
    assert result.exit_code == 2
    assert result.stderr.startswith("segtrain: ") and result.stderr.count("\n") == 1
    assert str(path) in result.stderr and words in result.stderr


def test_a_preset_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"'nope': no such file.*iccld.*gta5-cityscapes, synthia-cityscapes-13"):
        presets.read_preset("nope", "iccld", set())
    with pytest.raises(ConfigError, match="which has none"):
        presets.read_preset("nope", "train", set())
