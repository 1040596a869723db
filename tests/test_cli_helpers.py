"""The verbs that help: init, doctor, sources, convert, report, completion, --json, did-you-mean."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from synthgen.backends import ROLES, available
from synthgen.dataset.verify import NOT_CHECKED
from synthgen.errors import did_you_mean
from synthgen.images import write_image
from synthgen.labels import read_label_space
from synthgen.recipe import read_recipe, shipped_recipes
from synthgen.sources.catalogue import source_names

Cli = Callable[..., Any]


def told(done: Any) -> str:
    assert done.exit_code == 2, (done.output, done.exception)
    return str(done.stderr.splitlines()[-1].removeprefix("synthgen: "))


# init


def test_init_with_the_mini_model_writes_a_recipe_that_runs(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "tryout.yaml"
    done = cli("init", path, "--model", "mini", "--classes", "cat, bus", "--count", "3")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == f"wrote {path}" and "synthgen doctor" in done.stdout
    recipe = read_recipe(str(path))
    assert (recipe.name, recipe.labels.space, recipe.labels.classes, recipe.prompts.per_class) == (
        "tryout",
        "objects",
        ("cat", "bus"),
        2,
    )
    health = json.loads(cli("doctor", path, "--json").stdout)["recipes"][0]
    assert health["would_run"], health


def test_init_takes_names_in_any_script(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("\U0001f6b2", "\U00020bb7\u91ce", "v\u00e9lo", 'a "b" \\c')
    done = cli("init", "mine.yaml", "--classes", ", ".join(names), "--support", "\U0001f4f7\u2028s")
    assert done.exit_code == 0, done.output
    recipe = read_recipe("./mine.yaml")
    assert recipe.support.folder == "\U0001f4f7\u2028s" and recipe.labels.classes == names
    assert [label.name for label in read_label_space(recipe.labels.space).foreground] == list(names)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a b.yaml", "a-b"),
        ("v\u00e9lo (2).yml", "velo-2"),
        ("\u72ac_v1.2.yaml", "v1-2"),
        ("-_it's_\u2028.yaml", "it-s"),
    ],
)
def test_init_makes_the_name_of_runs_from_any_file(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("init", "--model", "mini", "--", file)
    assert done.exit_code == 0, done.output
    recipe = read_recipe(f"./{file}")
    assert recipe.name == name
    assert shlex.split(done.stdout.strip().split("\n")[-1].partition("synthgen run ")[2]) == [f"./{file}"]
    first = Path(file).read_text(encoding="utf-8").splitlines()[0]
    assert "\u2028" in file or shlex.split(first.partition("synthgen run ")[2]) == [f"./{file}"]


def test_init_for_photographs_writes_its_label_space_beside(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli(
        "init",
        "cranes.yaml",
        "--classes",
        "tower crane, excavator",
        "--support",
        "my: support",
        "--count",
        "101",
        "--shots",
        "3",
    )
    assert done.exit_code == 0, done.output
    recipe = read_recipe("./cranes.yaml")
    space = read_label_space(recipe.labels.space)
    assert [(label.id, label.name) for label in space.labels] == [
        (0, "background"),
        (1, "tower crane"),
        (2, "excavator"),
    ]
    assert len({label.colour for label in space.labels}) == 3 and space.background == 0
    assert (recipe.support.folder, recipe.support.shots, recipe.prompts.per_class) == ("my: support", 3, 51)
    assert recipe.render.renderer.model_dump()["model"] == "stabilityai/stable-diffusion-3.5-large"
    source = yaml.safe_load(Path("cranes.yaml").read_text())["prompts"]["source"]
    from synthgen.backends import load

    prompts = load("prompt_source", source, recipe.execution).candidates(space, space.foreground[:1], 0)
    assert "tower crane" in next(prompts).prompt
    for line in Path("cranes.yaml").read_text().splitlines():
        assert len(line) <= 170


def test_init_overwrites_nothing(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.labels.yaml").write_text("mine")
    said = told(cli("init", tmp_path / "mine.yaml", "--classes", "cat", "--support", "s"))
    assert said == f"{tmp_path / 'mine.labels.yaml'}: exists; choose another name, nothing is overwritten"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.labels.yaml"] and (
        tmp_path / "mine.labels.yaml"
    ).read_text() == "mine"
    (tmp_path / "mine.yaml").write_text("mine too")
    assert "exists; choose another name" in told(cli("init", tmp_path / "mine.yaml", "--model", "mini"))
    assert (tmp_path / "mine.yaml").read_text() == "mine too"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("a.yaml",), "--classes: name at least one"),
        (
            ("a.yaml", "--classes", "cat, cat", "--support", "s"),
            "--classes: cat, cat: each once, and without the background",
        ),
        (
            ("a.yaml", "--classes", "Cat, cat", "--support", "s"),
            "--classes: Cat, cat: each once, and without the background",
        ),
        (("a.yaml", "--classes", "Background, cat", "--support", "s"), "each once, and without the background"),
        (("a.yaml", "--classes", "bus, bus", "--model", "mini"), "--classes: bus, bus: each once"),
        (("a.yaml", "--classes", "background", "--model", "mini"), "each once, and without the background"),
        (
            ("a.yaml", "--classes", ",".join(f"c{n}" for n in range(254)), "--support", "s"),
            "a.labels.yaml: label space 'a': ids must be in 0..253",
        ),
        (("a.yaml", "--classes", "cat"), "--support: photographs need a support folder"),
        (("a.yaml", "--classes", "bycicle", "--model", "mini"), "did you mean 'bicycle'?"),
        (("a.txt", "--classes", "cat", "--model", "mini"), "a recipe's name ends in .yaml"),
        (("\u72ac.yaml", "--model", "mini"), "a run's name is of a-z, A-Z, 0-9, _ and -, none of which the file's has"),
    ],
)
def test_init_refuses_answers_that_do_not_fit(cli: Cli, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    assert said in told(cli("init", tmp_path / options[0], *options[1:]))
    assert not list(tmp_path.iterdir())


def test_init_where_nothing_can_be_written_names_no_option_that_it_has_not(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    said = told(cli("init", tmp_path / "file" / "a.yaml", "--classes", "cat", "--model", "mini"))
    assert "cannot be written" in said and "--runs" not in said


# doctor


def test_doctor_tells_what_would_run(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    done = cli("doctor")
    assert done.exit_code == 0, done.output
    for name in shipped_recipes():
        assert re.search(rf"^{re.escape(name)}: would", done.stdout, re.MULTILINE)
    assert "syn4seg-mini: would run" in done.stdout and "token set" in done.stdout
    assert "hf_secret" not in done.output
    assert (
        "syn4seg: would not run" in done.stdout
        and "no such folder; a labelled folder has images/ and labels/" in done.stdout
    )


def test_doctor_finds_every_thing_that_is_missing_at_once(cli: Cli, tiny: Callable[..., Path]) -> None:
    assert cli("doctor", tiny(), "--trust").exit_code == 0
    broken = tiny(
        support__folder="nowhere",
        refine__mask_decoder={"name": "segment_anything", "model": "mini/nothing"},
        prompts__source__vocabulary="nothing",
    )
    done = cli("doctor", broken, "--trust", "--json")
    assert done.exit_code == 1
    missing = " ".join(json.loads(done.stdout)["recipes"][0]["missing"])
    for said in ("nowhere/images: no such folder", "mini/nothing: no such weights", "'nothing' is not shipped"):
        assert said in missing
    assert "would not run" in cli("doctor", broken, "--trust").stdout


def test_doctor_knows_offline_hubs(
    cli: Cli, tiny: Callable[..., Path], process: Callable[..., Any], tmp_path: Path
) -> None:
    recipe = tiny(prompts__embedder={"name": "sd3", "model": "nobody/nothing"})
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"), "HF_TOKEN": ""}
    done = process("-m", "synthgen", "doctor", recipe, "--trust", "--json", env=env)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert found["machine"]["hub_offline"] and not found["machine"]["hub_token"]
    assert found["recipes"][0]["missing"] == [
        "nobody/nothing: not in the local cache, and HF_HUB_OFFLINE is set; download it once, or give a local folder"
    ]


# lists


def test_json_of_the_lists(cli: Cli) -> None:
    assert [each["name"] for each in json.loads(cli("recipes", "--json").stdout)] == shipped_recipes()
    assert json.loads(cli("recipes", "syn4seg-mini", "--json").stdout)[0]["labels"]["space"] == "objects"
    found = json.loads(cli("backends", "--json").stdout)
    assert {role: sorted(names) for role, names in found.items()} == {role: available(role) for role in ROLES}
    assert found["renderer"]["sd3"]["properties"]["steps"]["description"]
    assert [each["name"] for each in json.loads(cli("sources", "--json").stdout)] == source_names()


def test_json_of_verify(cli: Cli, finished: Path) -> None:
    dataset = finished / "dataset"
    assert json.loads(cli("verify", dataset, "--json").stdout) == {
        "dataset": str(dataset),
        "whole": True,
        "problems": [],
        "not_checked": NOT_CHECKED,
    }
    (dataset / "train-000000.tar").write_bytes(b"")
    done = cli("verify", dataset, "--json")
    found = json.loads(done.stdout)
    assert (
        done.exit_code == 1
        and not found["whole"]
        and "train-000000.tar" in {each["shard"] for each in found["problems"]}
    )


def test_sources_tell_what_to_download(cli: Cli) -> None:
    lines = cli("sources").stdout.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == source_names() and "support.source=NAME" in lines[-1]
    text = cli("sources", "cityscapes").stdout
    for said in (
        "licence: ",
        "gtFine_trainvaltest.zip",
        "splits: train, val, train_extra",
        "leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png",
    ):
        assert said in text
    assert told(cli("sources", "citiscapes")).endswith("; did you mean 'cityscapes'?")


def test_convert(cli: Cli, tmp_path: Path) -> None:
    import numpy as np

    (tmp_path / "in/images").mkdir(parents=True)
    (tmp_path / "in/labels").mkdir()
    Image.new("RGB", (4, 3)).save(tmp_path / "in/images/00001.png")
    write_image(np.full((3, 4), 26, np.uint8), tmp_path / "in/labels/00001.png")
    done = cli("convert", "gta5", tmp_path / "in", tmp_path / "out", "--space", "camvid")
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'out'}: 1 images of gta5\n")
    assert (np.asarray(Image.open(tmp_path / "out/labels/00001.png")) == 8).all()
    assert "give a new folder" in told(cli("convert", "gta5", tmp_path / "in", tmp_path / "out"))


# misspelt words and completion


def test_did_you_mean(cli: Cli, tiny: Callable[..., Path]) -> None:
    assert did_you_mean("xyz", ["classes"]) == ""
    assert told(cli("run", "syn4seg-mimi")).endswith("; did you mean 'syn4seg-mini'?")
    assert told(cli("run", tiny(render__heigth_px=64))).endswith("; did you mean 'height_px'?")
    assert told(cli("run", tiny(promts={}))).endswith("; did you mean 'prompts'?")
    assert told(cli("run", tiny(), "--set", "refine.proposer.name=prototipe")).endswith("; did you mean 'prototype'?")
    assert told(cli("run", tiny(prompts__source={"name": "grammar", "vocabularry": "x"}))).endswith(
        "; did you mean 'vocabulary'?"
    )
    assert told(cli("run", tiny(labels__classes=["sqare"]))).endswith("; did you mean 'square'?")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("synthgen do", ["doctor"]),
        ("synthgen run syn4seg-", ["syn4seg-mini"]),
        ("synthgen sources vo", ["voc"]),
        ("synthgen export runs/x --to coco-", ["coco-panoptic"]),
        ("synthgen run syn4seg --redo fi", ["filter"]),
        ("synthgen doctor syn4seg-", ["syn4seg-mini"]),
    ],
)
def test_shell_completion(words: str, expected: list[str]) -> None:
    env = {
        **os.environ,
        "_SYNTHGEN_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    code = "from synthgen.cli import app; app(prog_name='synthgen')"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split() == expected, done.stderr
