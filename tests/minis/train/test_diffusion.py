"""The minis' denoisers: their words, and the commands that train them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.mini_family import random_vae, write_family
from open_clip.tokenizer import SimpleTokenizer

from synthgen.minis.train import diffusion
from synthgen.minis.train.__main__ import main
from synthgen.training.flow import tokenize
from synthgen.training.pipelines import load_pipeline

CAPTIONS = ["a red car on the road at night", "a white horse in the snow", "", "a boat on the sea, by day"]


# words


def test_the_short_vocabulary_gives_clips_own_ids() -> None:
    theirs = SimpleTokenizer(context_length=24)
    ids = tokenize(diffusion.tokenizer(24), CAPTIONS)
    assert ids.shape == (4, 24)
    for mine, caption in zip(ids.tolist(), CAPTIONS, strict=True):
        # start and end are the last two ids of either vocabulary; the rest is padded with the end
        words = theirs.encode(caption)
        assert max(words, default=0) < diffusion.VOCABULARY - 2
        end = diffusion.VOCABULARY - 1
        assert mine == [end - 1, *words] + [end] * (23 - len(words))


# the command


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WIDTH": 48, "LAYERS": 2, "HEADS": 2, "TEXT_WIDTH": 32}.items():
        monkeypatch.setattr(diffusion, name, value)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("model", ["denoiser", "prior"])
def test_the_command_trains_resumes_and_saves(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random_vae(8, 16, 16).save_pretrained(tmp_path / "vae")
    start = (
        ["--vae", str(tmp_path / "vae")] if model == "denoiser" else ["--start", str(write_family(tmp_path / "base"))]
    )
    command = [
        model,
        *start,
        "--out",
        str(tmp_path / "out"),
        "--cache",
        str(tmp_path / "cache"),
        "--scenes",
        "4",
        "--batch-size",
        "2",
        "--threads",
        "1",
    ]
    assert main([*command, "--steps", "2"]) == 0
    assert main([*command, "--steps", "3"]) == 0
    out = capsys.readouterr().out
    assert "resumed at step 2" in out and "'steps': 3, 'samples': 6" in out
    load_pipeline(tmp_path / "out" / "model")
    assert (
        main([*command, "--steps", "1", "--out", str(tmp_path / "on"), "--start", str(tmp_path / "out" / "model")]) == 0
    )


def fails(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    try:
        code = main(argv)
    except SystemExit as end:  # argparse ends by itself
        code = end.code
    assert code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: python -m synthgen.minis.train")
    return captured.err.splitlines()[-1]


def test_help_names_the_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "{vae,denoiser,prior,sam,clip}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "error: which model?"),
        (["unet"], "error: no model 'unet'"),
        (["vae"], "the following arguments are required: --out, --cache"),
        (["denoiser", "--out", "o", "--cache", "c"], "the following arguments are required: --vae"),
        (["vae", "--out", "o", "--cache", "c", "--minutes", "0"], "argument --minutes: 0 is not above 0"),
        (["vae", "--out", "o", "--cache", "c", "--batch-size", "none"], "argument --batch-size: invalid"),
        (["vae", "--out", "o", "--cache", "c", "--stesp", "1"], "unrecognized arguments: --stesp 1"),
        (
            ["denoiser", "--out", "o", "--cache", "c", "--vae", "no/vae"],
            "--vae no/vae: no trained model there (it has no config.json)",
        ),
        (["prior", "--out", "o", "--cache", "c", "--start", "no"], "--start no: no trained model there"),
    ],
)
def test_a_wrong_command_ends_with_the_usage_and_one_line(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in fails(argv, capsys)


def test_a_start_that_is_no_family_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random_vae(8, 16, 16).save_pretrained(tmp_path)
    argv = ["denoiser", "--out", "o", "--cache", "c", "--vae", str(tmp_path), "--start", "gone"]
    assert "--start gone: no trained model there (it has no model_index.json)" in fails(argv, capsys)


def test_python_dash_m_gives_the_exit_code(process: Callable[..., Any]) -> None:
    done = process("-m", "synthgen.minis.train", "unet")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "error: no model 'unet'"
    assert process("-m", "synthgen.minis.train", "--help").returncode == 0
