"""`verify` never raises and never hangs, whatever the bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.metadata import read_metadata
from segkit.shards import Dataset
from synthgen.dataset.verify import Problem, verify
from synthgen.errors import DatasetError

FIRST = "train-000000.tar"


def _what(folder: Path) -> str:
    return "\n".join(map(str, verify(folder)))


EDIT = st.tuples(
    st.sampled_from(["flip", "cut", "insert", "repeat", "swap"]),
    st.integers(0, 2**20),
    st.integers(1, 700),
    st.integers(0, 7),
)


def _edited(data: bytes, edits: list[tuple[str, int, int, int]]) -> bytes:
    for kind, place, length, bit in edits:
        at = place % max(1, len(data))
        if kind == "flip" and data:
            data = data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]
        elif kind == "cut":
            data = data[:at] + data[at + length :]
        elif kind == "insert":
            data = data[:at] + bytes([bit]) * length + data[at:]
        elif kind == "repeat":
            data = data[: at + length] + data[at:]
        elif kind == "swap":
            block = at // 512 * 512
            data = data[:block] + data[block + 512 : block + 1024] + data[block : block + 512] + data[block + 1024 :]
    return data


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, make: Callable[[Path], Any]) -> Any:
    return make(tmp_path_factory.mktemp("fuzz") / "dataset")


@settings(max_examples=150, deadline=None)
@given(
    edits=st.lists(EDIT, min_size=1, max_size=4),
    file=st.sampled_from([FIRST, "train-000001.tar", "index.json"]),
    resealed=st.booleans(),
)
def test_no_damage_makes_anything_else_than_problems(
    shared: Any, edits: list[tuple[str, int, int, int]], file: str, resealed: bool
) -> None:
    """Whatever the bytes are:

    `verify` returns, a changed shard is found, and the reader raises DatasetError or nothing.
    """
    before = {name: (shared.folder / name).read_bytes() for name in (file, "index.json")}
    after = _edited(before[file], edits)
    (shared.folder / file).write_bytes(after)
    try:
        if resealed and file != "index.json":
            shared.reseal()
        _check_that_damage_is_told(shared.folder, file, before[file] != after and not resealed)
    finally:
        for name, data in before.items():
            (shared.folder / name).write_bytes(data)


def _check_that_damage_is_told(folder: Path, file: str, must_be_found: bool) -> None:
    problems = verify(folder)
    assert all(isinstance(problem, Problem) for problem in problems)
    if file != "index.json":
        assert not must_be_found or any(problem.shard == file for problem in problems)
    try:
        for sample in Dataset(folder):
            assert sample.image.shape[:2] == sample.mask.shape == sample.confidence.shape
    except DatasetError:
        assert problems, "the reader stumbles over what verify did not see"


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300) | st.text(max_size=200).map(lambda text: json.dumps({"key": text}).encode()))
def test_any_bytes_as_json(data: bytes) -> None:
    with pytest.raises(DatasetError):
        read_metadata(data, "x.json")


@pytest.mark.parametrize("name", [FIRST, "index.json", "croissant.json", "wids-train.json", "train-000000.parquet"])
def test_pipes_and_endless_devices_are_problems_and_never_hang(made: Any, name: str) -> None:
    path = made.folder / name
    for make in (os.mkfifo, lambda place: place.symlink_to("/dev/zero"), Path.mkdir):
        path.unlink(missing_ok=True)
        make(path)
        assert [problem.shard for problem in verify(made.folder)] in (
            [name],
            [FIRST],
            [name, FIRST],
        ), "the file itself, or the shard that it is the table of"
        if path.is_dir():
            path.rmdir()
