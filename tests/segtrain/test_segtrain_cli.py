from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from segtrain.cli import app
from segtrain.config import TrainConfig

TINY = [
    "--encoder",
    "tu-test_efficientnet",
    "--decoder-channels",
    "8,8,8,8,8",
    "--crop",
    "32",
    "--batch-size",
    "2",
    "--device",
    "cpu",
]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_train_then_eval(golden: Path, tmp_path: Path, write_folder, pairs) -> None:
    out, scores = tmp_path / "model", tmp_path / "scores.json"
    real = write_folder(tmp_path / "real", [(image, mask * 0) for image, mask in pairs(2)], label_space=False)
    result = run(
        "train", "--data", golden, "--folder", real, "--ratio", 1, "--ratio", 1, "--out", out, "--steps", 2, *TINY
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out)
    result = run("eval", "--model", out, "--data", golden, "--json", scores, "--novel", "disc", "--device", "cpu")
    assert result.exit_code == 0, result.output
    for words in (
        "ground",
        "mIoU over classes present in ground truth or prediction",
        "foreground mIoU",
        "boundary F",
        "harmonic",
        "background excluded, mean = (base + novel) / 2",
        "background excluded, mean over all base and novel classes",
        "background counts as a base class, mean over all classes",
        "split validation",
    ):
        assert words in result.stdout
    saved = json.loads(scores.read_text())
    assert saved["num_images"] == 4
    assert [c["name"] for c in saved["classes"]] == ["ground", "box", "disc"]
    assert set(saved["few_shot"]) == {"diam", "bam", "pop"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--data", "{golden}", "--out", "{tmp}/m", "--crop", "50"], "crop_px: "),
        (["train", "--data", "{tmp}/none", "--out", "{tmp}/m"], "{tmp}/none: no such folder"),
        (["train", "--data", "{tmp}", "--out", "{tmp}/m"], "{tmp}: neither a finished dataset"),
        (["train", "--data", "pipe:ls", "--out", "{tmp}/m"], "pipe:ls: only local folders are read"),
        (
            ["train", "--data", "{golden}", "--ratio", "1", "--ratio", "2", "--out", "{tmp}/m"],
            "ratio: 2 numbers for 1 sources",
        ),
        (["train", "--data", "{golden}", "--out", "{tmp}/m", "--device", "warp"], "device 'warp'"),
        (["eval", "--model", "{tmp}", "--data", "{golden}"], "{tmp}: no config.json, so no model"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    golden: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    places = {"golden": str(golden), "tmp": str(tmp_path)}
    result = run(*(argument.format(**places) for argument in arguments))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"segtrain: {says.format(**places)}")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "m").exists()


def test_every_setting_is_an_option_with_its_own_help_and_default() -> None:
    options = {parameter.name: parameter for parameter in typer.main.get_command(app).commands["train"].params}  # type: ignore[attr-defined]
    names = {"crop_px": "crop", "validation": "validate"}
    for name, field in TrainConfig.model_fields.items():
        option = options[names.get(name, name)]
        assert option.help == field.description
        if not field.is_required():
            assert (option.default or None) == (field.default or None)


def test_help_needs_no_torch() -> None:
    code = "import sys; from segtrain.cli import app; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    for command in ("train", "eval"):
        assert run(command, "--help").exit_code == 0
