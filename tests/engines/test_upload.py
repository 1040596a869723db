"""`synthgen upload`: the bytes of the disk on a store, the index last, nothing twice, nothing of others touched."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.processes import environment
from doubles.runs import digest
from doubles.stores import files_of, stored

from synthgen import storage
from synthgen.errors import DatasetError, InputError, StorageError
from synthgen.export.upload import CLAIM_FILE, target_url, upload

Cli = Callable[..., Any]
GOLDEN = Path(__file__).parents[1] / "golden" / "shards"
SENT_FROM = ["train-000000.tar", "train-000001.tar", "validation-000000.tar", "index.json"]
KILLED_AT_THE_THIRD_FILE = """
import os, signal, sys
from synthgen import cli, storage
publish, count = storage.publish, 0
def dying(path, source=None):
    global count
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    publish(path, source)
storage.publish = dying
cli.app(sys.argv[1:])
"""


def put(url: str, name: str, data: bytes) -> None:
    files_of(url).pipe_file(f"{url.removeprefix('memory://')}/{name}", data)


def held(url: str) -> dict[str, str]:
    """sha256 of every object below a memory:// URL, by relative name."""
    files, place = files_of(url), "/" + url.removeprefix("memory://")
    return {
        name.removeprefix(f"{place}/"): hashlib.sha256(files.cat_file(name)).hexdigest() for name in files.find(place)
    }


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`killed_at(n)`: sending a file ends in Ctrl-C from the n-th (from 0) on; -1 mends it."""
    publish = storage.publish

    def arrange(number: int) -> None:
        count = 0

        def dying(path: Path, source: Path | None = None) -> None:
            nonlocal count
            if count == number:
                raise KeyboardInterrupt
            count += 1
            publish(path, source)

        monkeypatch.setattr(storage, "publish", dying)

    return arrange


def test_a_run_on_a_disk_has_its_dataset_on_s3(
    undisturbed: Path, bucket: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL at the third file, then the same command; then it is read from there."""
    url, local = f"{bucket}/sets/tiny", digest(undisturbed / "dataset")
    command = [sys.executable, "-c", KILLED_AT_THE_THIRD_FILE, "upload", str(undisturbed), "--out", url]
    assert subprocess.run(command, env=environment(), capture_output=True, timeout=300, check=False).returncode == -9
    half = stored(url)
    assert CLAIM_FILE in half and "index.json" not in half and len(half) == 3
    refused = cli("verify", url)
    assert refused.exit_code == 1 and "index.json" in refused.stdout

    storage._stores.clear()
    done = cli("upload", undisturbed, "--out", url)
    assert done.exit_code == 0, done.output
    assert stored(url) == local
    sent = [line.removeprefix("sent ") for line in done.stderr.splitlines()]
    assert sorted(sent) == sorted(local.keys() - half.keys()) and sent[-1] == "index.json"
    assert f"{url}: " in done.stdout and f"{len(sent)} of {len(local)} files sent" in done.stdout

    monkeypatch.setattr(storage, "publish", lambda *_: pytest.fail("a file was sent again"))
    again = cli("upload", undisturbed / "dataset", "--out", url, "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["num_sent"] == 0 and json.loads(again.stdout)["url"] == url
    monkeypatch.undo()


def test_what_was_uploaded_is_read_from_there(
    undisturbed: Path, bucket: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("upload", undisturbed, "--out", f"{bucket}/a").exit_code == 0
    storage._stores.clear()
    verified = cli("verify", f"{bucket}/a")
    assert verified.exit_code == 0 and "whole" in verified.stdout, verified.output
    exported = cli("export", f"{bucket}/a", "--to", "folder", "--out", tmp_path / "out")
    assert exported.exit_code == 0, exported.output
    assert cli("upload", f"{bucket}/a", "--out", f"{bucket}/b").exit_code == 0, "from store to store"
    assert stored(f"{bucket}/b") == digest(undisturbed / "dataset")


@pytest.mark.parametrize("number", range(len(SENT_FROM)))
def test_a_kill_at_any_file_leaves_no_index_and_what_was_sent_is_not_sent_again(
    number: int, memory: str, killed_at: Callable[[int], None]
) -> None:
    killed_at(number)
    with pytest.raises(KeyboardInterrupt):
        upload(GOLDEN, memory)
    assert held(memory).keys() == {CLAIM_FILE, *SENT_FROM[:number]}
    killed_at(-1)
    sent: list[str] = []
    report = upload(GOLDEN, memory, sent.append)
    assert sent == SENT_FROM[number:] and report.num_sent == len(sent)
    assert held(memory) == digest(GOLDEN)
    assert upload(GOLDEN, memory).num_sent == 0 and held(memory) == digest(GOLDEN)


def test_the_index_comes_when_all_else_is_there(memory: str) -> None:
    def look(name: str) -> None:
        there = held(memory).keys() - {CLAIM_FILE}
        assert ("index.json" in there) == (there == set(SENT_FROM))

    assert upload(GOLDEN, memory, look).num_samples == 12


def test_a_kill_before_the_claim_is_removed_leaves_a_whole_dataset(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(storage, "remove", lambda _: pytest.exit("killed"))
        with pytest.raises(pytest.exit.Exception):
            upload(GOLDEN, memory)
    assert held(memory).keys() == {CLAIM_FILE, *SENT_FROM}
    assert upload(GOLDEN, memory).num_sent == 0
    assert held(memory) == digest(GOLDEN)


def test_a_half_object_of_a_killed_upload_is_sent_again(memory: str, killed_at: Callable[[int], None]) -> None:
    """Not every store puts whole or not at all; by its size alone the second one would pass."""
    killed_at(2)
    with pytest.raises(KeyboardInterrupt):
        upload(GOLDEN, memory)
    killed_at(-1)
    whole = (GOLDEN / "train-000001.tar").read_bytes()
    put(memory, "train-000000.tar", b"half")
    put(memory, "train-000001.tar", bytes(len(whole)))
    assert upload(GOLDEN, memory).num_sent == len(SENT_FROM)
    assert held(memory) == digest(GOLDEN)


def other_dataset(folder: Path) -> Path:
    """The golden dataset under another name: another index over the same shards."""
    shutil.copytree(GOLDEN, folder)
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, "name": "other"}))
    return folder


def test_another_dataset_is_refused_and_left_as_it_is(memory: str, tmp_path: Path) -> None:
    upload(other_dataset(tmp_path / "other"), memory)
    before = held(memory)
    with pytest.raises(StorageError, match=rf"{memory}: holds another dataset .*nothing was sent, choose another"):
        upload(GOLDEN, memory)
    assert held(memory) == before


def test_another_dataset_that_is_on_its_way_is_refused(
    memory: str, tmp_path: Path, killed_at: Callable[[int], None]
) -> None:
    killed_at(1)
    with pytest.raises(KeyboardInterrupt):
        upload(other_dataset(tmp_path / "other"), memory)
    killed_at(-1)
    before = held(memory)
    with pytest.raises(StorageError, match=rf"{memory}: an upload of another dataset than .* has begun there"):
        upload(GOLDEN, memory)
    assert held(memory) == before


def test_another_dataset_that_ends_first_holds(memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_first, other = storage.publish_first, other_dataset(tmp_path / "other")

    def overtaken(path: Path) -> bool:
        monkeypatch.setattr(storage, "publish_first", publish_first)
        upload(other, memory)
        return publish_first(path)

    monkeypatch.setattr(storage, "publish_first", overtaken)
    with pytest.raises(StorageError, match="holds another dataset"):
        upload(GOLDEN, memory)
    assert held(memory) == digest(other), "nothing of ours is left there"


@pytest.mark.parametrize("name", ["thesis.tex", "README.md", "train-000000.tar", "pictures/a.png"])
def test_what_no_upload_has_put_there_is_refused(name: str, memory: str) -> None:
    """A dataset's own names too, as long as nothing says that an upload of it has begun."""
    put(memory, name, b"mine")
    with pytest.raises(StorageError, match=rf"holds '{name.split('/')[0]}', not of this dataset; nothing was sent"):
        upload(GOLDEN, memory)
    assert held(memory) == {name: hashlib.sha256(b"mine").hexdigest()}


def test_a_whole_dataset_is_completed_and_never_written_over(memory: str) -> None:
    upload(GOLDEN, memory)
    files_of(memory).rm_file(f"{memory.removeprefix('memory://')}/train-000001.tar")
    sent: list[str] = []
    upload(GOLDEN, memory, sent.append)
    assert sent == ["train-000001.tar"] and held(memory) == digest(GOLDEN)
    put(memory, "train-000000.tar", b"mine")
    with pytest.raises(StorageError, match=r"train-000000\.tar: has other bytes than .*; nothing was sent, remove it"):
        upload(GOLDEN, memory)
    assert held(memory)["train-000000.tar"] == hashlib.sha256(b"mine").hexdigest()


def test_a_damaged_dataset_never_becomes_whole_there(memory: str, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(GOLDEN, folder)
    shard = folder / "train-000001.tar"
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(DatasetError, match=r"train-000001\.tar: is damaged or has just been changed"):
        upload(folder, memory)
    assert "index.json" not in held(memory)
    shard.unlink()
    with pytest.raises(DatasetError, match=r"train-000001\.tar: is missing or not of the size"):
        upload(folder, memory)
    (folder / "index.json").unlink()
    with pytest.raises(DatasetError, match="no finished dataset here"):
        upload(folder, memory)
    assert "index.json" not in held(memory)
    shutil.copy(GOLDEN / shard.name, folder)
    shutil.copy(GOLDEN / "index.json", folder)
    upload(folder, memory)
    assert held(memory) == digest(GOLDEN)


def test_what_is_not_of_the_dataset_stays_here_and_is_told(memory: str, tmp_path: Path, cli: Cli) -> None:
    shutil.copytree(GOLDEN, tmp_path / "set")
    (tmp_path / "set" / "passwords.txt").write_text("secret")
    done = cli("upload", tmp_path / "set", "--out", memory)
    assert done.exit_code == 0, done.output
    assert "not of the dataset, left here: passwords.txt" in done.stdout
    assert held(memory) == digest(GOLDEN)


@pytest.mark.parametrize("out", ["sets/mine", "/sets/mine", "file:///sets/mine", "https://host/mine", "s3://"])
def test_what_is_no_place_on_a_store_is_one_line(out: str, cli: Cli) -> None:
    with pytest.raises(InputError, match="must be a place on an object store"):
        target_url(Path(out))
    refused = cli("upload", GOLDEN, "--out", out)
    assert refused.exit_code == 2
    (line,) = refused.stderr.splitlines()
    assert "for example s3://bucket/sets/mine" in line


def test_what_a_store_refuses_at_an_upload_is_one_line(bucket: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = cli("upload", GOLDEN, "--out", "s3://no-such-bucket/set")
    assert refused.exit_code == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("synthgen: s3://no-such-bucket/set: there is no such bucket")
    assert line.endswith("make it first, or choose another place")

    import s3fs

    async def denied(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(s3fs.S3FileSystem, "_put_file", denied)
    s3fs.S3FileSystem.clear_instance_cache()  # an instance has taken the method when it was made
    refused = cli("upload", GOLDEN, "--out", f"{bucket}/set")
    assert refused.exit_code == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"synthgen: {bucket}/set: not allowed (Access Denied); look at your credentials")

    monkeypatch.setitem(sys.modules, "gcsfs", None)
    refused = cli("upload", GOLDEN, "--out", "gs://bucket/set")
    assert refused.exit_code == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("synthgen: gs://bucket/set: needs the extra: pip install 'synthgen-seg[cloud]'")
