"""The finished dataset: whole, sound, the same every time, and nobody else's files touched."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segkit.index import read_index
from synthgen.dataset.verify import verify
from synthgen.errors import RunError, StorageError
from synthgen.files import host_name
from synthgen.pack import finish as finish_module
from synthgen.pack.counts import RunCounts
from synthgen.pack.finish import finish

MakeRun = Callable[..., Any]
COUNTS = RunCounts(made={"filter": 10}, rejected={"filter": {"blank_image": 2}}, seconds={"filter": 1.5})


def _finish(run: Any, shards: Any, counts: RunCounts = COUNTS) -> Path:
    return finish(run.recipe, run.folder, shards, run.samples, counts)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_finished_dataset_is_sound(make_run: MakeRun) -> None:
    run = make_run(count=10, samples_per_shard=3)
    dataset = _finish(run, run.pack())
    assert dataset == run.folder / "dataset"
    assert verify(dataset) == []
    assert sorted(_contents(dataset)) == [
        "README.md",
        "contact_sheet.png",
        "croissant.json",
        "index.json",
        *(f"train-{number:06d}.{kind}" for number in range(3) for kind in ("parquet", "tar")),
        "validation-000000.parquet",
        "validation-000000.tar",
        "wids-train.json",
        "wids-validation.json",
    ]


def test_index_has_the_documented_keys(make_run: MakeRun) -> None:
    run = make_run(count=4)
    index = json.loads((_finish(run, run.pack()) / "index.json").read_text())
    page = (Path(__file__).parents[2] / "docs" / "SHARD_FORMAT.md").read_text()
    documented = json.loads(page.split("```json\n")[1].split("```")[0])
    assert list(index) == list(documented)
    for name, value in documented.items():
        if isinstance(value, list) and isinstance(value[0], dict):
            assert list(index[name][0]) == list(value[0]), name
    assert (index["name"], index["background"], index["num_samples"]) == ("shapes-test", 0, 4)


def test_order_of_shards_and_samples_does_not_matter(make_run: MakeRun) -> None:
    first, second = make_run("a", samples_per_shard=3), make_run("b", samples_per_shard=3)
    one = _finish(first, first.pack())
    shards = second.pack()
    second.samples.reverse()
    other = _finish(second, shards[::-1])
    assert _contents(one) == _contents(other)


def test_running_again_changes_nothing(make_run: MakeRun) -> None:
    run = make_run(samples_per_shard=3)
    shards = run.pack()
    dataset = _finish(run, shards)
    before, times = _contents(dataset), {p.name: p.stat().st_mtime_ns for p in dataset.iterdir()}
    slower = dataclasses.replace(COUNTS, seconds={"filter": 99.0})
    _finish(run, shards, slower)
    assert _contents(dataset) == before
    assert {p.name: p.stat().st_mtime_ns for p in dataset.iterdir()} == times


def test_index_is_written_last(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    shards = run.pack()
    written: list[str] = []
    original = finish_module.write_bytes

    def killed_at_the_card(data: bytes, path: Path) -> None:
        written.append(path.name)
        if path.name == "README.md":
            raise KeyboardInterrupt
        original(data, path)

    monkeypatch.setattr(finish_module, "write_bytes", killed_at_the_card)
    with pytest.raises(KeyboardInterrupt):
        _finish(run, shards)
    assert written == ["contact_sheet.png", "README.md"]
    assert not (run.folder / "dataset" / "index.json").exists()
    monkeypatch.undo()
    assert verify(_finish(run, shards)) == []


def test_shards_are_hard_links_or_copies(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    linked, copied = make_run("a"), make_run("b")
    shards = linked.pack()
    one = _finish(linked, shards)
    assert all((one / f"{s.key}.tar").samefile(linked.folder / s.shard) for s in shards)
    monkeypatch.setattr(os, "link", no_links)
    other = _finish(copied, copied.pack())
    assert not any((other / f"{s.key}.tar").samefile(copied.folder / s.shard) for s in shards)
    assert _contents(one) == _contents(other)
    _finish(copied, shards)
    assert _contents(one) == _contents(other)


def test_foreign_files_are_named_and_left_alone(make_run: MakeRun) -> None:
    run = make_run()
    shards = run.pack()
    dataset = run.folder / "dataset"
    (dataset / "notes").mkdir(parents=True)
    (dataset / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match=r"notes, thesis\.tex"):
        _finish(run, shards)
    assert sorted(_contents_names(dataset)) == ["notes", "thesis.tex"]


def _contents_names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_what_a_kill_left_behind_is_not_foreign_and_goes(make_run: MakeRun) -> None:
    run = make_run()
    shards = run.pack()
    dataset = _finish(run, shards)
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = {
        "dead": f".{shards[0].key}.tar.{host_name()}.{gone.pid}.tmp",
        "at work": f".index.json.{host_name()}.{os.getpid()}.tmp",
        "elsewhere": f".index.json.another-host.{gone.pid}.tmp",
    }
    for name in left.values():
        (dataset / name).write_bytes(b"half")
    assert verify(_finish(run, shards)) == []
    assert {what for what, name in left.items() if (dataset / name).exists()} == {"at work", "elsewhere"}


def test_another_file_under_a_shards_name_is_refused(make_run: MakeRun) -> None:
    run = make_run()
    shards = run.pack()
    dataset = run.folder / "dataset"
    dataset.mkdir()
    (dataset / f"{shards[0].key}.tar").write_bytes(b"mine")
    with pytest.raises(RunError, match="is not the shard of this run"):
        _finish(run, shards)
    assert (dataset / f"{shards[0].key}.tar").read_bytes() == b"mine"
    assert not (dataset / "index.json").exists()


def test_a_file_in_the_place_of_the_folder(make_run: MakeRun) -> None:
    run = make_run()
    shards = run.pack()
    (run.folder / "dataset").write_text("")
    with pytest.raises(StorageError, match="dataset: cannot be made"):
        _finish(run, shards)


@pytest.mark.parametrize("damage", ["no tar", "short tar", "no rows", "bad rows", "other rows"])
def test_a_damaged_unit_is_named(make_run: MakeRun, damage: str) -> None:
    run = make_run()
    shards = run.pack()
    tar = run.folder / shards[0].shard
    rows = tar.parent / "samples.json"
    if damage == "no tar":
        tar.unlink()
    elif damage == "short tar":
        tar.write_bytes(tar.read_bytes()[:-512])
    elif damage == "no rows":
        rows.unlink()
    elif damage == "bad rows":
        rows.write_text('[{"key": 3}]')
    else:
        rows.write_text(json.dumps(json.loads(rows.read_text())[1:]))
    with pytest.raises(RunError, match=str(tar if "tar" in damage else rows)):
        _finish(run, shards)
    assert not (run.folder / "dataset").exists()


def test_no_sample_at_all(make_run: MakeRun) -> None:
    run = make_run(count=0)
    with pytest.raises(RunError, match="no sample passed the filter"):
        _finish(run, [])


def test_seven_digits_come_after_six(make_run: MakeRun) -> None:
    run = make_run(count=8, samples_per_shard=4)
    train = [shard for shard in run.pack() if shard.split == "train"]
    (run.folder / "pack" / train[0].key).rename(run.folder / "pack" / "train-999999")
    (run.folder / "pack" / train[1].key).rename(run.folder / "pack" / "train-1000000")
    for old, new in zip(train, ("train-999999", "train-1000000"), strict=True):
        (run.folder / "pack" / new / f"{old.key}.tar").rename(run.folder / "pack" / new / f"{new}.tar")
    renamed = [
        dataclasses.replace(old, key=new, shard=f"pack/{new}/{new}.tar")
        for old, new in zip(train, ("train-999999", "train-1000000"), strict=True)
    ]
    index = read_index(_finish(run, renamed[::-1]))
    assert [shard.file for shard in index.shards] == ["train-999999.tar", "train-1000000.tar"]


def test_a_shard_whose_bits_flipped_before_the_finish_is_not_packed_as_sound(make_run: MakeRun) -> None:
    run = make_run(count=6, samples_per_shard=3)
    shards = list(run.pack())
    path = run.folder / shards[0].shard
    data = bytearray(path.read_bytes())
    data[700] ^= 4
    path.write_bytes(data)
    with pytest.raises(RunError, match="is damaged, its bytes are not those that were written; remove the folder"):
        _finish(run, shards)
    assert not (run.folder / "dataset" / "index.json").exists()
