"""What every test may use: one thread, the doubles, a tiny world, and the command line in this process or in
another."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parent
# Before anything loads torch or a BLAS: tests run beside other work, and a result must not depend on the number of
# threads.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))  # `doubles.painter` is a module name, here and in worker processes

from doubles.processes import environment  # noqa: E402
from doubles.world import write_recipe, write_world  # noqa: E402

Cli = Callable[..., Any]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
        if item.get_closest_marker("gpu"):
            import torch

            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="gpu: no CUDA device here"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with labels.yaml, grammar.yaml and support/. Tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    return folder


@pytest.fixture
def tiny(world: Path, tmp_path: Path) -> Callable[..., Path]:
    """`tiny(section__key=value)` writes the tiny recipe with changes and returns its path."""

    def make(**changes: Any) -> Path:
        return write_recipe(world, tmp_path / "tiny.yaml", **changes)

    return make


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, world: Path) -> Path:
    """A finished run of the tiny recipe that nothing has disturbed. Nobody writes into it."""
    from doubles.runs import whole_run

    folder = tmp_path_factory.mktemp("undisturbed")
    return whole_run(write_recipe(world, folder / "tiny.yaml"), folder / "run")


@pytest.fixture
def finished(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of that run where `cli` puts the tiny recipe's run."""
    folder = tmp_path / "runs" / "tiny"
    shutil.copytree(undisturbed, folder)
    return folder


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """`cli("run", recipe)` in this process; runs lie in tmp_path/runs unless the arguments say otherwise."""
    from typer.testing import CliRunner

    from synthgen.cli import app

    def call(*arguments: object) -> Any:
        given = [str(argument) for argument in arguments]
        if given[0] in ("run", "prompts", "render", "refine", "filter", "pack") and "--runs" not in given:
            given += ["--runs", str(tmp_path / "runs")]
        return CliRunner().invoke(app, given)

    return call


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`process("-m", "synthgen", ...)` in a Python of its own that finds the doubles; the working folder is
    tmp_path."""

    def call(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env=environment(**(env or {})),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return call


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """`calls()` is what the doubles were asked to do since the last `calls()`, in all processes."""
    from doubles.calls import VARIABLE, noted

    path = tmp_path / "calls.txt"
    monkeypatch.setenv(VARIABLE, str(path))

    def taken() -> list[str]:
        found = noted(path)
        path.unlink(missing_ok=True)
        return found

    yield taken
