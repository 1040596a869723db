"""A base of the Hub, through the real client and a loopback stand-in: pinned when the adaptation begins."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles.adaptations import TINY
from doubles.hub import Hub, hub
from doubles.processes import environment

NAME = "somebody/tiny-sd3"


@pytest.fixture
def standin() -> Iterator[Hub]:
    with hub() as server:
        yield server


def adapt(
    labelled: Path, out: Path, home: Path, online: dict[str, str], *sets: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "synthgen", "adapt", "--data", str(labelled), "--base", NAME, "--out", str(out)]
    command += [word for setting in (*TINY, *sets) for word in ("--set", setting)]
    return subprocess.run(
        command,
        env=environment(HF_HOME=str(home), HF_HUB_DISABLE_TELEMETRY="1", **online),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_it_goes_on_with_the_commit_that_it_began_with(
    base: Path, labelled: Path, standin: Hub, tmp_path: Path
) -> None:
    repository = standin.add(NAME, base)
    commit = repository.refs["main"]
    online = {"HF_ENDPOINT": standin.url}
    out, home = tmp_path / "model", tmp_path / "home"
    full = adapt(labelled, out, home, online, "adapt.controlnet.learning_rate=0.9", "adapt.lora.steps=0")
    assert full.returncode == 0, full.stderr
    assert json.loads((out / "synthgen.json").read_text(encoding="utf-8"))["base"] == {
        "model": NAME,
        "revision": commit,
    }
    assert NAME in (out / "README.md").read_text(encoding="utf-8")

    begun = tmp_path / "begun"  # as a kill leaves it: claimed, nothing made
    shutil.copytree(out / "training", begun / "training")
    changed = tmp_path / "changed"
    shutil.copytree(base, changed)
    (changed / "README.md").write_text("another commit", encoding="utf-8")
    assert repository.move(changed) != commit
    again = adapt(labelled, begun, home, online, "adapt.controlnet.learning_rate=0.9", "adapt.lora.steps=0")
    assert again.returncode == 0, again.stderr
    assert json.loads((begun / "synthgen.json").read_text(encoding="utf-8"))["base"]["revision"] == commit
    weights = "controlnet/diffusion_pytorch_model.safetensors"
    assert (begun / weights).read_bytes() == (out / weights).read_bytes()


def test_a_base_that_cannot_be_reached_is_one_line(base: Path, labelled: Path, standin: Hub, tmp_path: Path) -> None:
    standin.add(NAME, base, gated=True)
    made = adapt(labelled, tmp_path / "m", tmp_path / "home", {"HF_ENDPOINT": standin.url, "HF_TOKEN": ""})
    assert made.returncode == 2
    assert made.stderr.strip().splitlines()[-1].startswith(f"synthgen: model '{NAME}' is gated; accept its licence")
    assert not (tmp_path / "m").exists()
