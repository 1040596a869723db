"""The command line: what works, and what it says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles.told import told

from synthgen.backends import ROLES, available
from synthgen.images import read_mask
from synthgen.recipe import shipped_recipes
from synthgen.stages import names

Tiny = Callable[..., Path]
Cli = Callable[..., Any]


def test_verbs_one_by_one_and_status(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    recipe, run = tiny(), tmp_path / "runs" / "tiny"
    assert "the stage 'prompts' has not been run; run `synthgen prompts` first" in told(cli("render", recipe))
    for verb in ("prompts", "render", "refine", "filter", "pack"):
        assert cli(verb, recipe).exit_code == 0
        at = json.loads(cli("status", run, "--json").stdout)
        assert at[verb]["done"] == at[verb]["units"] > 0
    assert list(at) == list(names())
    text = cli("status", run).stdout
    for name, stage in at.items():
        assert name in text and f"{stage['done']}/{stage['units']}" in text
        for reason, count in stage["rejected"].items():
            assert f"{reason} {count}" in text
    assert f"{at['filter']['made']} samples in {run / 'dataset'}" in text
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert cli("run", recipe).exit_code == 0
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}


def test_told_commands_are_what_a_shell_takes(cli: Cli, finished: Path, tmp_path: Path) -> None:
    run = finished.rename(tmp_path / "my #1 runs")
    text = cli("status", run).stdout
    assert f"`synthgen verify '{run / 'dataset'}'`" in text and f"`synthgen report '{run}'`" in text


def test_status_of_a_run_that_has_only_begun(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    assert cli("prompts", tiny()).exit_code == 0
    text = cli("status", tmp_path / "runs" / "tiny").stdout
    assert "1/1" in text and "not begun" in text


def test_verify_takes_a_run_as_well(cli: Cli, tmp_path: Path, finished: Path) -> None:
    done = cli("verify", finished)
    assert done.exit_code == 0 and done.stdout.strip() == f"{finished / 'dataset'}: whole"
    for scheme in ("file", "local"):
        assert cli("verify", f"{scheme}://{finished}").stdout == done.stdout
    (finished / "dataset" / "index.json").unlink()
    assert cli("verify", finished).exit_code == 1
    absent = cli("verify", tmp_path / "nowhere")
    assert absent.exit_code == 2 and told(absent).endswith("nowhere: no such folder")
    assert cli("--version").stdout.startswith("synthgen ")


def test_verify_finds_what_is_broken(cli: Cli, tmp_path: Path, finished: Path) -> None:
    dataset = finished / "dataset"
    done = cli("verify", dataset)
    assert (done.exit_code, done.stdout) == (0, f"{dataset}: whole\n")
    data = bytearray((dataset / "train-000000.tar").read_bytes())
    data[1000] ^= 1
    (dataset / "train-000000.tar").write_bytes(data)
    done = cli("verify", dataset)
    assert done.exit_code == 1 and "train-000000.tar" in done.stdout and "problems" in done.stdout.splitlines()[-1]
    done = cli("verify", tmp_path)
    assert done.exit_code == 1 and "index.json: no such file" in done.stdout


def test_lists(cli: Cli) -> None:
    done = cli("recipes")
    assert [line.split()[0] for line in done.stdout.splitlines()] == shipped_recipes()
    done = cli("backends")
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(ROLES)
    for role, line in zip(ROLES, done.stdout.splitlines(), strict=True):
        assert line.split(maxsplit=1)[1] == ", ".join(available(role))
    assert told(cli("recipes", "nothing")).startswith("recipe 'nothing' is not shipped")


def test_a_printed_recipe_is_a_recipe(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(cli("recipes", "syn4seg-mini").stdout)
    assert told(cli("run", tmp_path / "mine.yaml", "--set", "labels.space=nothing")).startswith(
        "label space 'nothing': no file "
    )


def test_calibrate_prints_pass_rates_and_makes_nothing(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    done = cli("prompts", tiny(), "--calibrate")
    assert done.exit_code == 0, done.output
    assert "embedder word_bag, 3 classes" in done.stdout and "\n0.9 " in done.stdout
    assert not (tmp_path / "runs").exists()


def test_draw_writes_a_labelled_folder_and_never_over_one(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "drawn"
    done = cli("draw", out, "--count", 2, "--seed", 5, "--size-px", 48)
    assert (done.exit_code, done.stdout) == (0, f"{out}: 2 objects scenes\n")
    assert sorted(path.name for path in (out / "images").iterdir()) == sorted(
        path.name for path in (out / "labels").iterdir()
    )
    assert {read_mask(path).shape for path in (out / "labels").iterdir()} == {(48, 48)}
    assert told(cli("draw", out)) == f"{out}: exists and is not empty; give a new folder"
    assert told(cli("draw", tmp_path / "other", "--world", "oceans")).startswith("world 'oceans' is not known")
    assert np.unique(read_mask(next((out / "labels").iterdir()))).size > 1


def test_ctrl_c_of_what_does_not_go_on_says_so(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synthgen.drawn import objects

    assert cli("draw", tmp_path / "whole", "--count", 1).exit_code == 0
    drawings = iter([objects.draw(0)])

    def interrupt(*_: object, **__: object) -> Any:
        try:
            return next(drawings)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(objects, "draw", interrupt)
    monkeypatch.setattr("synthgen.sources.convert._picture", interrupt)
    out = tmp_path / "half"
    for words in (("draw", out, "--count", 2), ("convert", "folder", tmp_path / "whole", out)):
        done = cli(*words)
        assert done.exit_code == 130
        assert done.stderr.splitlines()[-1] == "synthgen: stopped; nothing is written; the same command begins again"
        assert not out.exists()


def test_ctrl_c_says_how_to_go_on(cli: Cli, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import doubles.painter

    def interrupt(*_: object) -> Any:
        raise KeyboardInterrupt

    recipe = tiny()
    with monkeypatch.context() as patch:
        patch.setattr(doubles.painter.Painter, "render", interrupt)
        done = cli("run", recipe)
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1] == "synthgen: stopped; the same command goes on where it stopped"
    assert not list((tmp_path / "runs" / "tiny" / "render").glob(".*"))
    assert cli("run", recipe).exit_code == 0


def test_a_bug_keeps_its_traceback(cli: Cli, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    import doubles.painter

    def bug(*_: object) -> Any:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(doubles.painter.Painter, "render", bug)
    assert isinstance(cli("run", tiny()).exception, ZeroDivisionError)


@pytest.mark.parametrize(
    "words",
    [
        "export runs/none --to folder --out s3://bucket/set",
        "draw s3://bucket/drawn",
        "convert folder s3://bucket/labelled out",
        "convert folder labelled s3://bucket/out",
        "report runs/none --out s3://bucket/page.html",
        "init s3://bucket/mine.yaml --classes cat",
        "adapt --out s3://bucket/model",
        "improve s3://bucket/run --model m --validation v",
        "improve runs/none --model s3://bucket/m --validation v",
        "improve runs/none --model m --validation v --out s3://bucket/rounds",
    ],
)
def test_an_object_store_where_a_disk_is_needed(
    cli: Cli, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = next(word for word in words.split() if word.startswith("s3:"))
    assert told(cli(*words.split())).startswith(f"{url}: must be on a disk here; ")
    assert not list(tmp_path.iterdir()), "no folder called s3:"


@pytest.mark.parametrize("scheme", ["file", "local"])
def test_a_url_of_this_disk_is_a_path(
    cli: Cli, scheme: str, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    done = cli("draw", f"{scheme}://{tmp_path / 'drawn'}", "--count", 1)
    assert done.stdout == f"{tmp_path / 'drawn'}: 1 objects scenes\n"
    assert (tmp_path / "drawn" / "labels.yaml").is_file()
    assert cli("report", f"{scheme}://{finished}").stdout.startswith(f"{finished}.report.html: ")
    assert not list((tmp_path / "empty").iterdir())
