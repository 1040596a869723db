"""Ctrl-C during a training, and what is seen while it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from doubles.killed_training import weights
from typer.testing import CliRunner

from segtrain.cli import app
from segtrain.interrupt import held_back
from segtrain.methods.supervised.method import train
from segtrain.progress import Bar


def test_ctrl_c_loses_no_step_and_the_same_command_goes_on(settings, golden: Path, tmp_path: Path) -> None:
    """The real thing: SIGINT to a process that has no checkpoint to write before the end, with a worker beside it."""
    out = tmp_path / "model"
    values = {"steps": "60", "batch-size": "3", "crop": "32", "checkpoint-every": "1000", "log-every": "1"}
    values |= {"encoder": "tu-test_efficientnet", "decoder-channels": "8,8,8,8,8", "device": "cpu", "num-workers": "1"}
    options = [word for name, value in values.items() for word in (f"--{name}", value)]
    command = [sys.executable, "-m", "segtrain", "train", "--data", str(golden), "--out", str(out), *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr
        for line in process.stderr:
            if line.startswith("step 2 "):
                os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to the worker too
                break
        rest = process.stderr.read().splitlines()
        assert process.wait() == 130
    assert (
        rest[-1] == f"segtrain: stopped; {out / 'checkpoint.pt'} is its checkpoint, and the same command goes on there"
    )
    assert all(line.startswith("step ") for line in rest[:-1])
    step = torch.load(out / "checkpoint.pt", weights_only=True)["step"]
    assert step == len(rest) - 1 + 2, "the step that was being taken is the last one"
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"going on at step {step} of 60" in done.stderr
    assert done.stdout == f"{out}\n"
    assert weights(out) == weights(train(settings(steps=60, out=tmp_path / "whole")))


def test_ctrl_c_before_the_first_step_is_one_line(golden: Path, tmp_path: Path, monkeypatch) -> None:
    def interrupted(config: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("segtrain.methods.supervised.method.train", interrupted)
    result = CliRunner().invoke(app, ["train", "--data", str(golden), "--out", str(tmp_path / "m")])
    assert result.exit_code == 130
    assert result.stderr == (
        f"segtrain: stopped; {tmp_path / 'm'} has no checkpoint yet, so the same command begins at the first step "
        "(see --checkpoint-every)\n"
    )


def test_the_first_ctrl_c_is_held_back_and_the_second_is_not() -> None:
    with pytest.raises(KeyboardInterrupt), held_back() as is_stopped:
        assert not is_stopped()
        signal.raise_signal(signal.SIGINT)
        assert is_stopped()
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_ctrl_c_between_the_checkpoint_and_the_bar_loses_no_step(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes too late for this step's checkpoint, so the training ends after the next step."""

    def show(self: Bar, done: int, text: str | None = None) -> None:
        if done == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Bar, "show", show)
    config = settings(checkpoint_every=1000)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    assert torch.load(config.out / "checkpoint.pt", weights_only=True)["step"] == 4


def test_a_terminal_shows_a_bar_and_others_lines_with_the_time_left(
    settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog
) -> None:
    caplog.set_level("INFO")
    train(settings(out=tmp_path / "plain"))
    line = next(message for message in caplog.messages if message.startswith("step 3 of 6"))
    assert "loss " in line and line.endswith(" left") and "6/6" not in capsys.readouterr().err
    caplog.clear()
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    train(settings(out=tmp_path / "bar"))
    shown = capsys.readouterr().err
    assert "6/6" in shown and "loss " in shown and "left" in shown
    assert not any(message.startswith("step ") for message in caplog.messages)
    assert weights(tmp_path / "bar") == weights(tmp_path / "plain")
