"""A run folder on an object store:

an S3 server in this process, real launches against it, the byte-identical dataset of a local run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from doubles.processes import environment
from doubles.runs import digest
from doubles.stores import files_of, stored

from segkit.urls import url_of
from synthgen import claims, local_copies, lock, pipeline, runner, stages, storage, worker
from synthgen.errors import RunError, StorageError
from synthgen.recipe import read_recipe
from synthgen.records import Rejected
from synthgen.runner import StageRun, Unit

Tiny = Callable[..., Path]
Cli = Callable[..., Any]


def launch(recipe: Path, url: str, *more: str, first: tuple[str, ...] = ("-m", "synthgen")) -> subprocess.Popen[str]:
    command = [sys.executable, *first, "run", str(recipe), "--runs", url, *more]
    return subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out + err


def test_run_on_a_store_gives_the_dataset_of_a_local_run(
    tiny: Tiny, undisturbed: Path, bucket: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = ended(launch(tiny(), f"{bucket}/runs", "--set", "execution.workers=2"))
    assert code == 0, said
    run = f"{bucket}/runs/tiny"
    assert f"samples in {run}/dataset" in " ".join(said.split()), "messages name the URL, not the copy"
    assert stored(f"{run}/dataset") == digest(undisturbed / "dataset")
    here = {name: value for name, value in digest(undisturbed).items() if name != lock.LOCK}
    there = {
        name: value
        for name, value in stored(run).items()
        if Path(name).name != runner.SECONDS and not name.startswith("events/")
    }
    assert {name: value for name, value in there.items() if name != lock.LOCK} == here

    status = cli("status", run, "--json")
    assert status.exit_code == 0, status.output
    assert {at["done"] == at["units"] for at in json.loads(status.output).values()} == {True}
    for named in (run, f"{run}/dataset"):
        verified = cli("verify", named)
        assert verified.exit_code == 0 and f"{run}/dataset: whole" in verified.output, verified.output
    exported = cli("export", run, "--to", "folder", "--out", tmp_path / "out")
    assert exported.exit_code == 0, exported.output
    page = cli("report", run, "--out", tmp_path / "page.html")
    assert page.exit_code == 0 and (tmp_path / "page.html").stat().st_size > 10_000, page.output

    monkeypatch.setattr(storage, "_sha256", lambda *_: pytest.fail("a shard was read again"))
    before = stored(f"{run}/dataset")
    again = cli("run", tiny(), "--runs", f"{bucket}/runs")
    assert again.exit_code == 0, again.output
    assert stored(f"{run}/dataset") == before


def test_killed_and_gone_on_with(tiny: Tiny, undisturbed: Path, bucket: str, calls: Callable[[], list[str]]) -> None:
    """SIGKILL in the second unit of `refine`, then the same command on what may be another machine:

    nothing but the store is left.
    """
    code, _ = ended(launch(tiny(), f"{bucket}/runs", first=("-m", "doubles.killed", "refine", "working")))
    assert code == -9
    run = f"{bucket}/runs/tiny"
    manifests = {name for name in stored(run) if name.endswith(runner.MANIFEST)}
    assert "refine/00000/manifest.parquet" in manifests and "refine/00001/manifest.parquet" not in manifests
    calls()
    code, said = ended(launch(tiny(), f"{bucket}/runs"))
    assert code == 0, said
    assert not [call for call in calls() if call.startswith("render")], "finished units are not made again"
    assert stored(f"{run}/dataset") == digest(undisturbed / "dataset")


def test_two_launches_on_one_store(tiny: Tiny, undisturbed: Path, bucket: str) -> None:
    both = [launch(tiny(), f"{bucket}/runs", "--set", f"execution.unit_rows={size}") for size in (2, 3)]
    for code, said in map(ended, both):
        assert code == 0, said
    assert stored(f"{bucket}/runs/tiny/dataset") == digest(undisturbed / "dataset")


def test_redo_keeps_the_old_results_in_the_store(tiny: Tiny, bucket: str, cli: Cli) -> None:
    run = f"{bucket}/runs/tiny"
    assert cli("run", tiny(), "--runs", f"{bucket}/runs").exit_code == 0
    before = stored(run)
    storage._stores.clear()
    again = cli("run", tiny(), "--runs", f"{bucket}/runs", "--set", "filter.rules.min_pixel_std=6", "--redo", "filter")
    assert again.exit_code == 0, again.output
    assert f"{run}/dataset.old-1" in again.output
    after = stored(run)
    assert {name: after[name] for name in before if name.startswith(("render/", "refine/"))} == {
        name: value for name, value in before.items() if name.startswith(("render/", "refine/"))
    }
    for name in ("filter", "pack", "dataset"):
        old = {inside.partition("/")[2]: value for inside, value in before.items() if inside.startswith(f"{name}/")}
        assert old == {
            inside.partition("/")[2]: value for inside, value in after.items() if inside.startswith(f"{name}.old-1/")
        }
    storage._stores.clear()
    refused = cli("run", tiny(), "--runs", f"{bucket}/runs")
    assert refused.exit_code == 2 and f"{run}/filter: this run was made with" in refused.stderr


def test_a_bucket_that_is_not_there_is_one_line(tiny: Tiny, bucket: str, cli: Cli) -> None:
    refused = cli("run", tiny(), "--runs", "s3://no-such-bucket/runs")
    assert refused.exit_code == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("synthgen: s3://no-such-bucket/runs/tiny: there is no such bucket")


def test_a_store_that_does_not_answer_is_one_line(bucket: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    refused = cli("status", "s3://other/runs/tiny")
    assert refused.exit_code == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("synthgen: s3://other/runs/tiny: cannot be used (Could not connect")


def test_a_package_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_stores", {})
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(StorageError, match=r"gs://bucket/runs: needs the extra: pip install 'synthgen-seg\[cloud\]'"):
        storage.local_copy(Path("gs://bucket/runs"))
    with pytest.raises(StorageError, match=r"nonsense://x/runs: no such kind of storage"):
        storage.local_copy(Path("nonsense://x/runs"))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            PermissionError("Access Denied"),
            "not allowed (Access Denied); look at your credentials and at the bucket's rights",
        ),
        (
            OSError(5, "Please reduce your request rate"),
            "cannot be used ([Errno 5] Please reduce your request rate); the same command goes on",
        ),
        (FileNotFoundError("The specified bucket does not exist"), "there is no such bucket"),
        (NotImplementedError(), "cannot be used (NotImplementedError)"),  # of a store that is only read
        (httpx2.ConnectError("no route to host"), "cannot be used (no route to host)"),  # of hf://
    ],
)
def test_what_a_store_refuses_is_one_line(memory: str, error: Exception, told: str) -> None:
    run = storage.local_copy(Path(memory) / "run")
    store = storage.store_of(run / "render")
    assert store is not None
    with pytest.raises(StorageError, match=re.escape(f"{memory}/run: {told}")), storage._error_context(store):
        raise error


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("runs", ""),
        ("/runs/a:b", ""),
        ("s3://bucket/runs", "s3://bucket/runs"),
        ("C:/runs", ""),
        ("memory://a/b/", "memory://a/b"),
        ("S3://bucket/runs", "S3://bucket/runs"),
        ("simplecache::s3://bucket/runs", "simplecache::s3://bucket/runs"),
    ],
)
def test_what_is_a_url(path: str, url: str) -> None:
    assert url_of(Path(path)) == url
    assert storage.local_copy(Path("file:///some/where")) == Path("/some/where")
    assert storage.local_copy(Path("local:///some/where")) == Path("/some/where")
    assert storage.local_dataset(Path("local:///some/where")) == Path("/some/where")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("simplecache::s3://bucket/runs", "chains of URLs (::) are not taken"),
        ("S3://bucket/runs", "no such kind of storage"),
        ("zip://runs", "cannot be opened (IsADirectoryError"),  # the working directory
        ("reference://bucket/runs", "cannot be opened (TypeError"),
        ("dir://bucket/runs", "cannot be opened (AttributeError"),
    ],
)
def test_a_url_that_cannot_be_opened_is_one_line(monkeypatch: pytest.MonkeyPatch, url: str, told: str) -> None:
    monkeypatch.setattr(storage, "_stores", {})
    with pytest.raises(StorageError, match=re.escape(f"{url}: {told}")):
        storage.local_copy(Path(url))


UNITS = [Unit("00000", 0, 1), Unit("00001", 1, 2)]


def _stage(url: str) -> StageRun:
    return StageRun("shout", storage.local_copy(Path(url) / "run") / "shout", Rejected, None)


def _elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on this process is another machine: it has no copy."""
    monkeypatch.setattr(storage, "_stores", {})


class Writes:
    def process(self, rows: Any, folder: Path, unit: str) -> Iterator[Rejected]:
        (folder / "picture.png").write_bytes(b"png")
        (folder / "counts.json").write_text("{}")
        yield Rejected("r", "p", "shout", "no", unit, 0.0)


def test_of_two_claims_the_first_holds(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = _stage(memory)
    _elsewhere(monkeypatch)
    other = _stage(memory)

    def plan() -> list[Unit]:
        registered = dict(storage._stores)
        _elsewhere(monkeypatch)
        claims.claim(_stage(memory), {"loud": True}, lambda: UNITS)
        runner.run_unit(_stage(memory), UNITS[0], Writes(), [])
        storage._stores.update(registered)
        return UNITS[:1]

    claims.claim(other, {"loud": True}, plan)
    assert other.units() == UNITS, "the plan that was stored first"
    with pytest.raises(RunError, match="loud = True, the recipe now says False"):
        claims.claim(_stage(memory), {"loud": False}, lambda: UNITS)
    assert not here.folder.is_relative_to(other.folder)


def test_a_unit_is_done_when_its_manifest_is_stored(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = _stage(memory)
    claims.claim(stage, {}, lambda: UNITS)
    runner.run_unit(stage, UNITS[0], Writes(), [])
    files = files_of(memory)
    place = "/" + memory.removeprefix("memory://") + "/run/shout"
    assert {Path(name).name for name in files.find(f"{place}/00000")} == {
        "picture.png", "counts.json", runner.SECONDS, runner.REJECTED, runner.MANIFEST,
    }  # fmt: skip
    files.pipe_file(f"{place}/00001/picture.png", b"half a unit, of a launch that was killed")

    _elsewhere(monkeypatch)
    other = _stage(memory)
    assert other.is_claimed() and other.missing() == UNITS[1:]
    here = sorted(path.name for path in (other.folder / "00000").iterdir())
    assert here == ["counts.json", runner.MANIFEST, runner.REJECTED, runner.SECONDS]
    picture = other.folder / "00000" / "picture.png"
    storage.fetch(picture)
    assert picture.read_bytes() == b"png", "an image comes when it is read"
    runner.run_unit(other, UNITS[1], Writes(), [])
    assert files.cat_file(f"{place}/00001/picture.png") == b"png"

    _elsewhere(monkeypatch)
    assert _stage(memory).is_claimed() and _stage(memory).is_complete()


@pytest.mark.parametrize("last", ["render", "score", "pack"])
def test_a_worker_on_another_machine_has_nothing_but_the_store(
    tiny: Tiny, undisturbed: Path, memory: str, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    recipe, run = read_recipe(str(tiny())), storage.local_copy(Path(memory) / "run")
    names = list(stages.names())
    for name in names[: names.index(last)]:
        for _ in pipeline.run_stage(recipe, run, name):
            pass
    stage = stages.stages(run)[last]
    claims.claim(stage, stages.settings(recipe, last), lambda: pipeline.plan(recipe, stage))
    work = worker.Work(recipe, run, last, claims.fingerprint(stage.claim()["settings"]), False)
    unit = stage.units()[0]
    shutil.rmtree(run)
    _elsewhere(monkeypatch)
    for cached in (worker.built, worker.planned, worker.stored_input):
        cached.cache_clear()
    made, _ = work(unit)
    found = stages.stages(undisturbed)[last]
    assert made == found.counts(unit)[0] > 0
    assert (stage.folder / unit.name / runner.MANIFEST).read_bytes() == (
        found.folder / unit.name / runner.MANIFEST
    ).read_bytes()


def test_another_shard_in_the_store_is_not_replaced(memory: str) -> None:
    run = storage.local_copy(Path(memory) / "run")
    source, target = run / "pack" / "a.tar", run / "dataset" / "a.tar"
    source.parent.mkdir()
    source.write_bytes(b"shard")
    storage.publish(source)
    sha256 = hashlib.sha256(b"shard").hexdigest()
    assert storage.size_of(source) == 5 and storage.size_of(target) is None
    assert storage.copy_within(source, target, sha256) and storage.copy_within(source, target, sha256)
    assert storage.size_of(target) == 5 and not target.exists(), "copied within the store"
    assert not storage.copy_within(source, target, hashlib.sha256(b"other").hexdigest())


def test_foreign_objects_are_refused(memory: str) -> None:
    files_of(memory).pipe_file(memory.removeprefix("memory://") + "/run/thesis.tex", b"mine")
    with pytest.raises(RunError, match=r"thesis\.tex is not part of this run"):
        pipeline._refuse_foreign(storage.local_copy(Path(memory) / "run"))


def test_copies_of_dead_processes_are_swept(memory: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = tmp_path / f"synthgen-copy.{local_copies.host_name()}.{gone.pid}.x"
    alive = tmp_path / f"synthgen-copy.{local_copies.host_name()}.{os.getpid()}.x"
    for folder in (dead, alive):
        (folder / "run").mkdir(parents=True)
    storage.local_copy(Path(memory) / "run")
    assert not dead.exists() and alive.exists()
