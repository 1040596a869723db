"""Threads that wait for one another sleep after a moment, unless the user has said otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import segtrain.cli
import synthgen.cli
from segkit.threads import SPINS, wait_briefly


@pytest.mark.parametrize(
    ("said", "spins"),
    [({}, SPINS), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_what_the_environment_says_stays(monkeypatch: pytest.MonkeyPatch, said: dict[str, str], spins: str) -> None:
    monkeypatch.setattr(os, "environ", dict(said))
    wait_briefly()
    assert os.environ == said | ({"GOMP_SPINCOUNT": spins} if spins else {})


@pytest.mark.parametrize(("app", "command"), [(synthgen.cli.app, "recipes"), (segtrain.cli.app, "eval")])
def test_every_command_has_it(monkeypatch: pytest.MonkeyPatch, app: object, command: str) -> None:
    monkeypatch.setattr(os, "environ", {k: v for k, v in os.environ.items() if "GOMP" not in k and "OMP_WAIT" not in k})
    CliRunner().invoke(app, [command])  # type: ignore[arg-type]
    assert os.environ["GOMP_SPINCOUNT"] == SPINS


@pytest.mark.parametrize("program", ["synthgen", "segtrain"])
def test_torch_is_not_loaded_before(program: str) -> None:
    code = f"import {program}.cli, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
