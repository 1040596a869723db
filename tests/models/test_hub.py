"""Models of a Hub, through the real client and a loopback stand-in: ids become commits once; errors by kind."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from doubles.hub import Hub, hub
from doubles.mini_family import write_family
from doubles.processes import environment, waited
from doubles.runs import digest

from synthgen import lock, stages
from synthgen.models.provenance import Pins, pinned, revision_of

Tiny = Callable[..., Path]
NAME = "somebody/tiny-sd3"


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_family(tmp_path_factory.mktemp("hub") / "family")


@pytest.fixture
def standin() -> Iterator[Hub]:
    with hub() as server:
        yield server


@pytest.fixture
def recipe(tiny: Tiny) -> Path:
    return tiny(
        prompts__embedder={"name": "sd3", "model": NAME},
        prompts__per_class=2,
        prompts__lambda_div=1.0,
        render={"renderer": {"name": "sd3", "model": NAME, "steps": 1}, "height_px": 32, "width_px": 32},
        filter__rules={"min_class_fraction": 0.0, "min_labelled_fraction": 0.0, "min_pixel_std": 0.0},
        execution__unit_rows=1,
    )


def launch(recipe: Path, runs: Path, standin: Hub | None, home: Path, **more: str) -> subprocess.Popen[str]:
    online = {"HF_ENDPOINT": standin.url} if standin else {"HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "synthgen", "run", str(recipe), "--runs", str(runs)],
        env=environment(HF_HOME=str(home), HF_HUB_DISABLE_TELEMETRY="1", **online, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out + err


@pytest.mark.slow
def test_a_run_goes_on_with_the_weights_it_began_with(recipe: Path, family: Path, standin: Hub, tmp_path: Path) -> None:
    """Killed in the middle; meanwhile the repository moves; then the same command, another machine, and no network."""
    repository = standin.add(NAME, family)
    first_commit = repository.refs["main"]
    run = tmp_path / "runs" / "tiny"
    process = launch(recipe, tmp_path / "runs", standin, tmp_path / "home")
    waited(lambda: list(run.glob("render/0*/manifest.parquet")) or process.poll() is not None, 240)
    process.send_signal(signal.SIGKILL)
    _, said = process.communicate()
    stage = stages.stages(run)["render"]
    assert stage.is_claimed() and stage.missing(), f"killed while it rendered: {said}"
    shutil.copytree(run, tmp_path / "elsewhere" / "tiny", ignore=shutil.ignore_patterns(".*"))

    changed = tmp_path / "changed"
    shutil.copytree(family, changed)
    (changed / "README.md").write_text("another commit")
    assert repository.move(changed) != first_commit
    code, said = finished(launch(recipe, tmp_path / "runs", standin, tmp_path / "home"))
    assert code == 0, said
    locked = yaml.safe_load((run / lock.LOCK).read_text())
    assert locked["models"] == {NAME: first_commit}
    assert first_commit in (run / "dataset" / "README.md").read_text()
    assert {row.picture.model_revision for row in stages.stages(run)["render"].rows()} == {first_commit}

    code, said = finished(launch(recipe, tmp_path / "elsewhere", standin, tmp_path / "fresh_home"))
    assert code == 0, said
    assert digest(tmp_path / "elsewhere" / "tiny" / "dataset") == digest(run / "dataset")
    code, said = finished(launch(recipe, tmp_path / "runs", None, tmp_path / "home"))
    assert code == 0, said


LOAD = """
import sys
from diffusers import SD3Transformer2DModel
from synthgen.errors import ModelError
from synthgen.models.provenance import pinned_revision
from synthgen.models.weights import loading
for asked in sys.argv[1:]:
    model, _, revision = asked.partition("@")
    try:
        with loading(model):
            SD3Transformer2DModel.from_pretrained(model, subfolder="transformer", **pinned_revision(model, revision))
        print("loaded")
    except ModelError as error:
        print(error)
"""


@pytest.fixture
def asked(standin: Hub, tmp_path: Path) -> Callable[..., list[str]]:
    """`asked("id@revision", ...)`: what resolving and loading each model says, in a process without a token."""

    def load(*models: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", LOAD, *models],
            env=environment(HF_ENDPOINT=standin.url, HF_HOME=str(tmp_path / "home"), TQDM_DISABLE="1", HF_TOKEN=""),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [line for line in done.stdout.splitlines() if line == "loaded" or line.startswith("model ")]

    return load


def test_each_reason_is_told_as_what_it_is(
    asked: Callable[..., list[str]], family: Path, standin: Hub, tmp_path: Path
) -> None:
    standin.add(NAME, family)
    standin.add("somebody/gated", family, gated=True)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "README.md").write_text("nothing else")
    standin.add("somebody/bare", tmp_path / "bare")
    asked_for = (NAME, "somebody/gated", "somebody/tiny-sd4", f"{NAME}@v9", "somebody/bare")
    loaded, gated, misspelt, revision, bare = asked(*asked_for)
    assert loaded == "loaded"
    assert "is gated; accept its licence" in gated
    assert "is not on the Hub under this id" in misspelt and "gated" not in misspelt
    assert "has no revision 'v9' on the Hub" in revision
    assert "lacks a file that this backend needs" in bare


def test_of_several_cached_snapshots_the_one_that_main_names_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "models--somebody--model"
    commits = [letter * 40 for letter in "abc"]
    for commit in commits:
        (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commits[1])
    (folder / "refs" / "v1").write_text(commits[2])
    assert [Pins().commit("somebody/model") for _ in range(5)] == [commits[1]] * 5
    assert Pins().commit("somebody/model", "v1") == commits[2]
    assert Pins().commit("somebody/model", commits[0]) == commits[0], "a commit needs nobody's answer"


def test_a_pin_is_asked_once_and_holds_inside(standin: Hub, family: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", standin.url)
    repository = standin.add(NAME, family)
    with pinned({}) as pins:
        before = revision_of(NAME)
        repository.move(family)
        assert revision_of(NAME) == before == pins.commits[NAME]
        assert sum("api/models" in question for question in standin.asked) == 1
    with pinned({NAME: "f" * 40}):
        assert revision_of(NAME) == "f" * 40
    assert sum("api/models" in question for question in standin.asked) == 1


def test_two_launches_with_other_recipes_leave_the_lock_of_the_first(tiny: Tiny, tmp_path: Path) -> None:
    """However they meet: one is refused, and the lock tells the recipe that made the dataset."""
    for round_ in range(3):
        runs = tmp_path / f"runs-{round_}"
        processes = {
            fraction: subprocess.Popen(
                [sys.executable, "-m", "synthgen", "run", str(tiny()), "--runs", str(runs),
                 "--set", f"filter.rules.max_class_fraction={fraction}"],
                env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for fraction in (1.0, 0.5)
        }  # fmt: skip
        time.sleep(0.05 * round_)
        said: dict[float, Any] = {fraction: finished(process) for fraction, process in processes.items()}
        assert sorted(code for code, _ in said.values()) == [0, 2], said
        winner = next(fraction for fraction, (code, _) in said.items() if code == 0)
        refused = next(text for code, text in said.values() if code == 2)
        assert "max_class_fraction" in refused
        locked = yaml.safe_load((runs / "tiny" / lock.LOCK).read_text())
        assert locked["filter"]["rules"]["max_class_fraction"] == winner
