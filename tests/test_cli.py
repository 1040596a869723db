"""The command line: what it prints, and one clear line with exit code 2 for everything that a user can get wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles.world import paint, write_world
from PIL import Image

from synthgen.backends import ROLES, available
from synthgen.dataset.verify import verify
from synthgen.images import read_mask, write_image
from synthgen.recipe import shipped_recipes
from synthgen.stages import names

Tiny = Callable[..., Path]
Cli = Callable[..., Any]


def told(done: Any) -> str:
    """The one line that a refused command says last; no traceback."""
    assert done.exit_code == 2, (done.output, done.exception)
    assert "Traceback" not in done.output
    *before, last = done.stderr.splitlines()
    assert last.startswith("synthgen: ") and not [line for line in before if line.startswith("synthgen: ")]
    return str(last.removeprefix("synthgen: "))


@pytest.fixture
def own_world(tmp_path: Path) -> Path:
    """A world that a test may spoil."""
    write_world(tmp_path / "world")
    return tmp_path / "world"


# recipes that cannot be


@pytest.mark.parametrize("command", ["run", "prompts", "render", "refine", "filter", "pack"])
def test_unknown_recipe(cli: Cli, command: str) -> None:
    assert told(cli(command, "syn4seg-mimi")).startswith("recipe 'syn4seg-mimi' is not shipped; there are: ")
    assert told(cli(command, "./none.yaml")).startswith(
        "recipe './none.yaml': no such file; shipped recipes go by bare name: "
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"promts": {}}, "promts: no such setting; a recipe has: name, "),
        ({"render__heigth_px": 64}, "render.heigth_px: no such setting; render has: "),
        (
            {"render__renderer": {"name": "doubles.painter", "contrst": 2}},
            "renderer 'doubles.painter': contrst: Extra inputs are not permitted (got 2)",
        ),
        ({"prompts__lambda_div": 2}, "prompts.lambda_div: Input should be a number from -1 to 1, or auto (got 2)"),
        ({"labels__space": "objcts"}, "label space 'objcts': no file "),
        (
            {"labels__classes": ["cow"]},
            "class 'cow' is not in label space 'shapes'; it has: background, disc, square, bar",
        ),
        (
            {"labels__classes": ["background"]},
            "labels.classes: 'background' is the background of label space 'shapes', no prompt asks for it",
        ),
        ({"prompts__source__vocabulary": "objcts"}, "prompts.source.vocabulary 'objcts' is not shipped; there are: "),
        (
            {"support__folder": "nowhere"},
            "nowhere/images: no such folder; a labelled folder has images/ and labels/ with the same stems",
        ),
    ],
)
def test_bad_settings_are_told_before_any_work(
    cli: Cli, tiny: Tiny, tmp_path: Path, calls: Callable[[], list[str]], changes: Any, said: str
) -> None:
    assert said in told(cli("run", tiny(**changes)))
    assert calls() == []
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize(
    ("option", "said"),
    [("prompts.per_class", "write it as a.b=value"), ("prompts.per_clas=3", "prompts.per_clas: no such setting")],
)
def test_bad_set(cli: Cli, tiny: Tiny, option: str, said: str) -> None:
    assert said in told(cli("run", tiny(), "--set", option))


def test_unknown_stage_to_redo(cli: Cli, tiny: Tiny) -> None:
    said = f"--redo 'scores': there is no such stage; there are: {', '.join(names())}; did you mean 'score'?"
    assert told(cli("run", tiny(), "--redo", "scores")) == said


# support sets that cannot be used; prompts and images are made by then, and stay


@pytest.fixture
def spoilt(cli: Cli, tiny: Tiny, own_world: Path, tmp_path: Path) -> Callable[[Callable[[Path], Any]], str]:
    """Spoil the support folder, run, mend it, run again: the second run must make nothing twice."""

    def check(spoil: Callable[[Path], Any]) -> str:
        shutil.copytree(own_world / "support", tmp_path / "whole")
        recipe = tiny(support__folder=str(own_world / "support"))
        spoil(own_world / "support")
        said = told(cli("run", recipe))
        images = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "tiny" / "render").rglob("*.png")}
        shutil.rmtree(own_world / "support")
        shutil.copytree(tmp_path / "whole", own_world / "support")
        assert cli("run", recipe).exit_code == 0
        assert verify(tmp_path / "runs" / "tiny" / "dataset") == []
        assert images == {path: path.stat().st_mtime_ns for path in images}
        return said

    return check


def test_label_ids_outside_the_label_space(spoilt: Callable[..., str]) -> None:
    def spoil(support: Path) -> None:
        mask = read_mask(support / "labels" / "disc_1.png")
        mask[0, :2] = (17, 200)
        write_image(mask, support / "labels" / "disc_1.png")

    assert spoilt(spoil).endswith(
        "labels/disc_1.png: ids 17, 200 are not in label space 'shapes' (ids 0..3, 255 = ignore)"
    )


def test_image_and_mask_of_different_size(spoilt: Callable[..., str]) -> None:
    said = spoilt(lambda support: write_image(paint("disc", 1, 16)[1], support / "labels" / "disc_1.png"))
    assert said.endswith(
        "labels/disc_1.png: is 16 x 16 px (H x W), its image 32 x 32; export the mask at the picture's size, or resize "
        "it by nearest neighbour"
    )


def test_unreadable_image(spoilt: Callable[..., str]) -> None:
    said = spoilt(lambda support: (support / "images" / "bar_0.png").write_bytes(b"not a picture"))
    assert "images/bar_0.png: cannot be read as an image (" in said and said.endswith("remove or replace the file")


def test_colour_label_map(spoilt: Callable[..., str]) -> None:
    said = spoilt(lambda support: Image.new("RGB", (32, 32), (1, 2, 3)).save(support / "labels" / "bar_0.png"))
    assert "labels/bar_0.png: colours [1, 2, 3] (1024 px) are not in label space 'shapes'" in said


def test_image_without_a_label(spoilt: Callable[..., str]) -> None:
    said = spoilt(lambda support: (support / "labels" / "bar_0.png").unlink())
    assert said.endswith("images/bar_0.png: has no partner labels/bar_0.png; add it or remove the file")


def test_class_that_no_support_image_shows(cli: Cli, tiny: Tiny, own_world: Path) -> None:
    for path in (own_world / "support").glob("*/bar_*"):
        path.unlink()
    said = told(cli("run", tiny(support__folder=str(own_world / "support"))))
    assert said.endswith("no image shows enough of class 'bar' (id 3); add one or leave it out of labels.classes")


# models


OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HOME": "{home}", "HF_TOKEN": ""}


@pytest.mark.parametrize(
    ("role", "backend", "said"),
    [
        (
            "prompts__embedder",
            {"name": "sd3", "model": "nobody/nothing"},
            "model 'nobody/nothing' is not in the local cache and the Hub cannot be reached; go online once, or "
            "give a local folder",
        ),
        (
            "refine__mask_decoder",
            {"name": "segment_anything", "model": "mini/nothing"},
            "mini/nothing: no such weights in ",
        ),
    ],
)
def test_missing_weights(
    process: Callable[..., Any], tiny: Tiny, tmp_path: Path, role: str, backend: dict[str, str], said: str
) -> None:
    env = {name: value.format(home=tmp_path / "hub") for name, value in OFFLINE.items()}
    done: subprocess.CompletedProcess[str] = process("-m", "synthgen", "run", tiny(**{role: backend}), env=env)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"synthgen: {said}")


# folders


def test_unwritable_run_folder(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for runs in (tmp_path / "file", tmp_path / "file" / "deeper"):
        said = told(cli("run", tiny(), "--runs", runs))
        assert said.startswith(str(runs)) and said.endswith("choose another place with --runs")
    assert (tmp_path / "file").read_text() == "mine"


def test_read_only_run_folder(cli: Cli, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(self: Path, *args: object, **kwargs: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", read_only)
    said = told(cli("run", tiny(), "--runs", tmp_path / "runs"))
    assert "cannot be written (Read-only file system)" in said and said.endswith("choose another place with --runs")


@pytest.mark.parametrize("place", ["thesis.doc", "render/thesis.doc", "dataset/thesis.doc", "photos/1.jpg"])
def test_foreign_file_in_a_run_folder(cli: Cli, tiny: Tiny, finished: Path, place: str) -> None:
    recipe, run = tiny(), finished
    foreign = run / place
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("mine")
    said = told(cli("run", recipe))
    assert "thesis.doc" in said or "photos" in said
    assert "move" in said and "away" in said
    assert foreign.read_text() == "mine"
    foreign.unlink()
    if place.startswith("photos"):
        foreign.parent.rmdir()
    assert cli("run", recipe).exit_code == 0


def test_folder_of_somebody_is_never_taken_for_a_run_folder(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    (tmp_path / "runs" / "tiny" / "holiday.jpg").write_text("mine")
    assert "holiday.jpg is not part of this run" in told(cli("run", tiny()))
    assert [path.name for path in (tmp_path / "runs" / "tiny").iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_status_of_a_folder_that_is_no_run(cli: Cli, tmp_path: Path, options: tuple[str, ...]) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        assert (
            told(cli("status", folder, *options))
            == f"{folder}: is not a run folder (no recipe.lock.yaml); runs lie in runs/ by default"
        )


def test_damaged_manifest(cli: Cli, tiny: Tiny, tmp_path: Path, finished: Path) -> None:
    recipe, run = tiny(), finished
    unit = run / "refine" / "00001"
    (unit / "manifest.parquet").write_bytes((unit / "manifest.parquet").read_bytes()[:99])
    for command in (("run", recipe), ("status", run)):
        said = told(cli(*command))
        assert (
            said.startswith(f"{unit / 'manifest.parquet'}: is damaged") and f"move the unit folder {unit} away" in said
        )
    unit.rename(tmp_path / "away")
    assert cli("run", recipe).exit_code == 0, "the way out works"


# what works


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
        assert (
            done.stderr.splitlines()[-1] == f"synthgen: stopped; {out} is not whole: remove it before the same command"
        )
        shutil.rmtree(out, ignore_errors=True)


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
