"""The wheel: built, installed elsewhere, and used from a folder that is not the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("synthgen_seg-*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`python("-m", "synthgen", ...)` with the installed wheel alone, in an empty folder."""
    target, elsewhere = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("elsewhere")
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-compile",
        "--disable-pip-version-check",
    ]
    subprocess.run([*install, "--target", str(target), str(wheel)], check=True, capture_output=True)

    def call(*arguments: object) -> Any:
        env = {"PYTHONPATH": str(target), "PATH": "", "LC_ALL": "C.UTF-8"}
        return subprocess.run(
            [sys.executable, *map(str, arguments)], cwd=elsewhere, env=env, capture_output=True, text=True, check=False
        )

    where = call("-c", "import synthgen, segtrain; print(synthgen.__file__, segtrain.__file__)").stdout.split()
    assert [Path(path).parent.parent for path in where] == [target, target], "these tests must not see the checkout"
    return call


def shipped(folder: str) -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def test_wheel_holds_all_that_ships_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    data = shipped("pipelines") | shipped("prompts") | shipped("data_cards")
    assert {f"synthgen/_shipped/{name}" for name in data} == {
        name for name in names if name.startswith("synthgen/_shipped/")
    }
    code = {
        str(path.relative_to(ROOT))
        for package in ("synthgen", "segtrain", "segkit")
        for path in (ROOT / package).rglob("*.py")
    }
    assert code <= names
    beside_code = {
        str(path.relative_to(ROOT))
        for part in ("synthgen/sources", "synthgen/report", "segtrain/report")
        for path in (ROOT / part).glob("*.[hcjy]*")
    }
    assert {Path(name).name for name in beside_code} >= {
        "cityscapes.yaml",
        "page.html",
        "page.css",
        "page.js",
    } and beside_code <= names
    weights = {
        str(path.relative_to(ROOT)) for path in (ROOT / "synthgen" / "minis" / "weights").rglob("*") if path.is_file()
    }
    assert weights <= names
    assert {name.split("/")[0] for name in names} == {
        "synthgen",
        "segtrain",
        "segkit",
        next(n for n in names if n.endswith("/METADATA")).split("/")[0],
    }
    assert not [name for name in names if "__pycache__" in name or "/test" in name]


def test_wheel_carries_its_licence_and_commands(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    text = {
        name.rpartition("/")[2]: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name
    }
    assert "Apache License" in text["LICENSE"]
    assert "License-Expression: Apache-2.0" in text["METADATA"]
    assert (
        "synthgen = synthgen.cli:app" in text["entry_points.txt"]
        and "segtrain = segtrain.cli:app" in text["entry_points.txt"]
    )


def test_installed_elsewhere_it_lists_and_prints_its_recipes(python: Callable[..., Any]) -> None:
    done = python("-m", "synthgen", "recipes")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == sorted(
        path.stem for path in (ROOT / "pipelines").glob("*.yaml")
    )
    done = python("-m", "synthgen", "recipes", "syn4seg-mini")
    assert done.stdout == (ROOT / "pipelines" / "syn4seg-mini.yaml").read_text(encoding="utf-8")


def test_installed_elsewhere_it_finds_vocabularies_and_cards(python: Callable[..., Any]) -> None:
    code = """
from synthgen.backends import check_options, load
from synthgen.labels import read_label_space
from synthgen.recipe import read_recipe, shipped_recipes
from synthgen.shipped import shipped_folder
for name in shipped_recipes():
    recipe = read_recipe(name)
    space = read_label_space(recipe.labels.space)
    assert (shipped_folder("data_cards") / f"{recipe.pack.card}.md").is_file()
    if recipe.prompts.source.name == "grammar":
        source = load("prompt_source", recipe.prompts.source.model_dump(), recipe.execution)
        print(next(source.candidates(space, space.foreground[:1], 0)).prompt)
"""
    done = python("-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
