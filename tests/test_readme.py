"""The quick commands of the README and of the shard format's page, run as they are written."""

from __future__ import annotations

import io
import itertools
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.documents import fences, shell_lines
from typer.testing import CliRunner

from synthgen.cli import app
from synthgen.labels import read_label_space
from synthgen.recipe import read_recipe, shipped_recipes
from synthgen.sources.catalogue import source_names

QUICK = ("backends", "doctor", "draw", "export", "init", "recipes", "report", "sources", "status", "verify")


MOST_SCENES = 500


def commands(page: str = "README.md") -> list[list[str]]:
    """Tokens of every line of a shell block that is one of synthgen's quick commands;

    drawing thousands of scenes is none.
    """
    lines = (shlex.split(line, comments=True) for line in shell_lines(page))
    found = [tokens for tokens in lines if tokens[:1] == ["synthgen"] and tokens[1] in QUICK]
    return [
        tokens
        for tokens in found
        if "--count" not in tokens or tokens[1] != "draw" or int(tokens[tokens.index("--count") + 1]) <= MOST_SCENES
    ]


def run(tokens: list[str]) -> str:
    """What it prints; `> file` is followed. Fails if the exit code is not 0."""
    arguments, _, target = " ".join(map(shlex.quote, tokens[1:])).partition(" '>' ")
    done = CliRunner().invoke(app, shlex.split(arguments))
    assert done.exit_code == 0, (tokens, done.output, done.exception)
    if target:
        Path(target).write_text(done.stdout, encoding="utf-8")
    return done.stdout


@pytest.fixture
def place(tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder where runs/syn4seg-mini is a finished run (a tiny one)."""
    shutil.copytree(undisturbed, tmp_path / "runs/syn4seg-mini")
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def test_the_quick_commands_of_the_readme_do_what_it_says(place: Path) -> None:
    assert len(commands()) >= 8
    said = {" ".join(tokens): run(tokens) for tokens in commands()}
    by_verb = {command.split()[1]: text for command, text in said.items()}
    assert set(by_verb) >= {"doctor", "draw", "export", "init", "recipes", "report", "sources", "verify"}
    assert by_verb["verify"] == "runs/syn4seg-mini/dataset: whole\n"
    for name in shipped_recipes():
        assert name in said["synthgen recipes"] and name in by_verb["doctor"]
    assert read_recipe("./mine.yaml") == read_recipe("syn4seg"), "a printed recipe is a recipe"
    assert read_recipe("./cranes.yaml").labels.classes == ("crane", "excavator")
    assert [label.name for label in read_label_space("cranes.labels.yaml").labels] == [
        "background",
        "crane",
        "excavator",
    ]
    assert re.match(
        r"<!doctype html>\n<!-- synthgen report -->",
        (place / "runs/syn4seg-mini.report.html").read_text(encoding="utf-8"),
    )
    assert list((place / "coco_copy/annotations").glob("instances_*.json"))
    assert all(name in by_verb["sources"] for name in source_names())
    assert len(list((place / "runs/held-out/labels").iterdir())) == 200


def test_no_drawing_of_the_readme_is_both_learnt_from_and_held_out() -> None:
    lines = (shlex.split(line, comments=True) for line in shell_lines("README.md"))
    drawn: dict[str, list[set[int]]] = {}
    for tokens in lines:
        if tokens[:2] == ["synthgen", "draw"]:
            options = dict(itertools.pairwise(tokens))
            first = int(options.get("--seed", "0"))
            drawn.setdefault(options["--world"], []).append(set(range(first, first + int(options["--count"]))))
    assert max(map(len, drawn.values())) >= 3
    for sets in drawn.values():
        assert all(not one & other for one, other in itertools.combinations(sets, 2))


def test_every_format_that_the_readme_names_can_be_exported(place: Path) -> None:
    [line] = [line for line in shell_lines("README.md") if " --to coco " in line]
    words = line.partition("# or ")[2].split()
    assert len(words) >= 8
    for word in words:
        if word == "cityscapes":
            continue  # has no such classes: it says so, see tests/export
        assert "samples as" in run(["synthgen", "export", "runs/syn4seg-mini", "--to", word, "--out", f"copy-{word}"])


def test_the_query_of_the_shard_format_runs(place: Path, undisturbed: Path) -> None:
    duckdb = pytest.importorskip(
        "duckdb", reason="duckdb is not installed (extra interop), the query of SHARD_FORMAT.md is not run"
    )
    shutil.copytree(undisturbed / "dataset", place / "dataset")
    [query] = fences("docs/SHARD_FORMAT.md", "sql")
    with duckdb.connect() as connection:
        rows = connection.execute(query.partition("--")[0]).fetchall()
    assert {name for name, _, _ in rows} == {"disc", "square", "bar"} and all(
        count > 0 and -1 <= score <= 1 for _, count, score in rows
    )


def test_the_signing_command_of_the_shard_format_runs(
    tiny: Callable[..., Path], cli: Callable[..., Any], place: Path
) -> None:
    c2pa = pytest.importorskip("c2pa", reason="c2pa-python is not installed (extra c2pa), signing is not tested")
    from benchmarks.own_certificate import write_certificate

    [command] = [shlex.split(line) for line in shell_lines("docs/SHARD_FORMAT.md") if "pack.mark=c2pa" in line]
    write_certificate(place)
    done = cli("run", tiny(), *command[3:])
    assert done.exit_code == 0, done.output
    run(["synthgen", "export", "runs/tiny", "--to", "voc", "--out", "voc"])
    images = list((place / "voc/JPEGImages").iterdir())
    for path in images:
        with c2pa.Reader("image/jpeg", io.BytesIO(path.read_bytes())) as reader:
            assert '"validation_state": "Valid"' in reader.json()
    assert images
