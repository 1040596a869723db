from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

import segtrain
from segtrain.cli import app
from segtrain.config import TrainConfig
from segtrain.method_group import MethodGroup, methods

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


def test_scores_replace_scores_and_nothing_else(golden: Path, tmp_path: Path) -> None:
    out, scores = tmp_path / "model", tmp_path / "scores.json"
    assert run("train", "--data", golden, "--out", out, "--steps", 1, *TINY).exit_code == 0
    command = ["eval", "--model", out, "--data", golden, "--device", "cpu", "--json", scores]
    for foreign in ("thesis", "{}", '{"format": "mine"}'):
        scores.write_text(foreign)
        result = run(*command)
        assert (result.exit_code, result.stderr.count("\n"), result.stdout) == (2, 1, "")
        assert "holds no scores of `segtrain eval`: name another file" in result.stderr
        assert scores.read_text() == foreign
    scores.unlink()
    for _ in range(2):
        assert run(*command).exit_code == 0
        assert json.loads(scores.read_text())["format"] == "segtrain-scores"


def test_every_method_folder_is_a_command() -> None:
    assert methods() == ["clouds", "few_shot", "flex_seg", "iccld", "multi_shift", "supervised", "unimatch"]
    group = typer.main.get_command(app)
    assert isinstance(group, MethodGroup)
    own = {"eval", "predict", "export", "report"}
    assert set(group.commands) == {"train", "few-shot", "flex-seg", "multi-shift", "clouds", "unimatch", "iccld"} | own
    assert set(group.whole("few-shot").commands) == {"base", "novel"}


def test_a_new_method_folder_needs_no_edit_elsewhere(tmp_path: Path) -> None:
    """A copy of the package with one more folder: its command is there, with its help, its options and its training."""
    package = tmp_path / "segtrain"
    shutil.copytree(Path(segtrain.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    folder = package / "methods" / "mine"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""Mine of all."""\n\nCOMMANDS = {"mine": "Config"}\n')
    (folder / "config.py").write_text(
        "from pydantic import Field\nfrom segtrain.config import TrainConfig\n"
        'class Config(TrainConfig):\n    """My method."""\n    weight: float = Field(2.0, description="how much")\n'
    )
    (folder / "method.py").write_text("def train(config): return f'weight {config.weight}'\n")
    call = [sys.executable, "-m", "segtrain", "mine"]
    root = str(Path(segtrain.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{root}", "COLUMNS": "120"}
    run_it = {"cwd": tmp_path, "env": env, "capture_output": True, "text": True, "check": True}
    listed = subprocess.run([*call[:-1], "--help"], **run_it).stdout  # type: ignore[call-overload]
    assert "Mine of all." in listed
    text = subprocess.run([*call, "--help"], **run_it).stdout  # type: ignore[call-overload]
    assert "My method." in text and "--weight" in text and "how much [default: 2.0]" in text
    done = subprocess.run([*call, "--data", "x", "--out", "y", "--weight", "3"], **run_it)  # type: ignore[call-overload]
    assert done.stdout == "weight 3.0\n"


def test_every_setting_is_an_option_with_its_own_help_and_default() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, MethodGroup)
    options = {parameter.name: parameter for parameter in group.whole("train").params}
    names = {"crop_px": "crop", "validation": "validate"}
    for name, field in TrainConfig.model_fields.items():
        option = options[names.get(name, name)]
        assert option.help == field.description
        if not field.is_required():
            assert (option.default or None) == (field.default or None)


def test_help_needs_no_torch() -> None:
    code = "import sys; from segtrain.cli import app; app(['--help'], standalone_mode=False)\n"
    heavy = ("torch", "numpy", "pydantic", "yaml", "PIL")
    code += f"assert not {{*{heavy}}} & sys.modules.keys(), {{*{heavy}}} & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "Weak-to-strong" in done.stdout and "few-shot" in done.stdout


def test_help_of_every_command_needs_no_torch() -> None:
    code = """
import sys
from typer.main import get_command
from typer.testing import CliRunner
from segtrain.cli import app

for name in get_command(app).list_commands(None):
    done = CliRunner().invoke(app, [name, "--help"])
    assert done.exit_code == 0, (name, done.output)
    assert "torch" not in sys.modules, name
    print(name)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"train", "clouds", "unimatch", "iccld", "flex-seg", "eval", "report"} <= set(done.stdout.split())


def test_scores_go_to_standard_output_where_asked(
    golden: Path, tiny_model: Path, tmp_path: Path, write_folder, pairs
) -> None:
    data = write_folder(tmp_path / "data", pairs(2))
    result = run("eval", "--model", tiny_model, "--data", data, "--device", "cpu", "--json", "-")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["num_images"] == 2 and not Path("-").exists()
    assert sum(map(sum, told["confusion"])) == sum(one["pixels"] for one in told["classes"])


def test_version_and_completion() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"segtrain {metadata.version('synthgen-seg')}\n")
    assert "--install-completion" in run("--help").stdout


def test_a_training_tells_its_end_result_as_json(golden: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    command = [
        "train",
        "--data",
        golden,
        "--out",
        out,
        "--steps",
        2,
        "--validate",
        golden,
        "--validate-every",
        1,
        *TINY,
    ]
    tried = run(*command, "--json", "--dry-run")
    assert tried.exit_code == 0, tried.output
    plan = {"format": "segtrain-training", "model": str(out), "finished": False, "dry_run": True}
    assert json.loads(tried.stdout) == plan and not out.exists()
    for _ in range(2):  # the second time there is nothing to do, and the same is told
        result = run(*command, "--json")
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)
        assert (told["model"], told["finished"], told["dry_run"], told["steps"]) == (str(out), True, False, 2)
        scores = json.loads((out / "validation.json").read_text())
        assert told["validation"] == scores and told["best"]["miou"] >= scores["miou"]
        assert [one["drawn"] for one in told["mix"]] == [4]


def test_every_training_has_json() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, MethodGroup)
    trainings = {"train", "flex-seg", "multi-shift", "clouds", "unimatch", "iccld"}
    for command in (*group.whole("few-shot").commands.values(), *(group.whole(name) for name in trainings)):
        assert "--json" in {word for parameter in command.params for word in parameter.opts}, command.name


@pytest.mark.parametrize(
    "words",
    [
        "train --data none --steps 1 --out s3://bucket/model",
        "predict --model none pictures --out s3://bucket/masks",
        "export --model none --to onnx --out s3://bucket/model.onnx",
        "report none --out s3://bucket/page.html",
        "eval --model none --data none --anomaly --maps s3://bucket/maps",
        "eval --model none --data none --json s3://bucket/scores.json",
    ],
)
def test_nothing_is_written_to_a_url(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    url = next(word for word in words.split() if word.startswith("s3:"))
    refused = run(*words.split())
    assert refused.exit_code == 2 and f"{url}: only folders on a disk here are written to" in refused.stderr
    assert not list(tmp_path.iterdir()), "no folder called s3:"
