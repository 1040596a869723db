"""What only looks at a recipe runs nothing of somebody else's; a card template is no program."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from synthgen.cli import app
from synthgen.errors import RecipeError
from synthgen.plugins import looking_only
from synthgen.recipe import read_recipe, recipe_path

MODULE = """
from pathlib import Path
Path({marker!r}).touch()
from synthgen.models.renderers.sd3 import Options, build
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Appears when the module `stranger.painter` is imported, which the recipe `stranger.yaml` names."""
    marker = tmp_path / "imported"
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "painter.py").write_text(MODULE.format(marker=str(marker)))
    text = recipe_path("syn4seg-mini").read_text()
    assert "name: sd3, model: mini/objects, steps" in text
    named = text.replace("name: sd3, model: mini/objects, steps", "name: stranger.painter, model: mini/objects, steps")
    (tmp_path / "stranger.yaml").write_text(named)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("stranger", "stranger.painter"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return marker


@pytest.mark.parametrize(
    "words",
    [("run", "{}", "--dry-run"), ("run", "{}", "--dry-run", "--json"), ("doctor", "{}"), ("recipes", "{}", "--json")],
)
def test_looking_imports_nothing_of_others_unless_told_to(words: tuple[str, ...], marker: Path, tmp_path: Path) -> None:
    asked = [word.format(tmp_path / "stranger.yaml") for word in words]
    result = run(*asked)
    assert result.exit_code != 0
    assert "'stranger.painter': somebody else's module is not imported to look at" in result.output
    assert not marker.exists() and "stranger.painter" not in sys.modules
    run(*asked, "--trust")
    assert marker.exists()


def test_reading_a_recipe_to_run_it_imports_what_it_names(marker: Path, tmp_path: Path) -> None:
    with looking_only(), pytest.raises(RecipeError, match="say --trust"):
        read_recipe(str(tmp_path / "stranger.yaml"))
    assert not marker.exists()
    read_recipe(str(tmp_path / "stranger.yaml"))
    assert marker.exists()
