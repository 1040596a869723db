"""`verify` finds every break and names the place."""

from __future__ import annotations

import io
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segkit.ustar import member_header, padding
from synthgen.dataset.verify import Problem, verify
from synthgen.images import png_bytes

FIRST = "train-000000.tar"


def _what(folder: Path) -> str:
    return "\n".join(map(str, verify(folder)))


def _mask(made: Any, key: str = "s001") -> np.ndarray:
    return made.arrays[key][1].copy()  # type: ignore[no-any-return]


def test_a_sound_dataset_has_no_problems(made: Any) -> None:
    assert verify(made.folder) == []
    assert verify(made.folder, workers=3) == []


def test_every_flipped_byte_of_a_shard_is_found(made: Any) -> None:
    path = made.folder / FIRST
    data = path.read_bytes()
    for offset in range(0, len(data), 97):
        path.write_bytes(data[:offset] + bytes([data[offset] ^ 4]) + data[offset + 1 :])
        assert any(problem.shard == FIRST and "sha256" in problem.what for problem in verify(made.folder)), offset
    path.write_bytes(data)
    assert verify(made.folder) == []


def test_every_truncation_of_a_shard_is_found(made: Any) -> None:
    path = made.folder / FIRST
    data = path.read_bytes()
    for length in [*range(0, len(data), 511), len(data) - 1]:
        path.write_bytes(data[:length])
        assert "bytes, the index says" in _what(made.folder)
        made.reseal()
        assert f"{FIRST}: " in _what(made.folder), length


def test_missing_alien_and_unreadable_files(made: Any) -> None:
    shutil.copy(made.folder / FIRST, made.folder / "train-000009.tar")
    (made.folder / "train-000001.tar").unlink()
    (made.folder / "validation-000000.tar").unlink()
    (made.folder / "validation-000000.tar").mkdir()
    problems = verify(made.folder)
    assert [(problem.shard, problem.key) for problem in problems] == [
        ("train-000009.tar", ""),
        ("train-000001.tar", ""),
        ("validation-000000.tar", ""),
    ]
    assert [problem.what.split(",")[0] for problem in problems[:2]] == ["is not in the index", "the file is missing"]


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"format": NaN}'])
def test_a_broken_index_is_one_problem(made: Any, content: bytes | None) -> None:
    path = made.folder / "index.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    (problem,) = verify(made.folder)
    assert (problem.shard, problem.key) == ("index.json", "") and problem.what and str(path) not in problem.what


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert len(verify(tmp_path / "nowhere")) == 1


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(index: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        node: Any = index
        for part in parents:
            node = node[int(part) if part.isdigit() else part]
        node[int(last) if last.isdigit() else last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("background", 9), "background 9 is not the id of a label"),
        (_set("num_samples", 7), "num_samples is 7, it lists 6 samples"),
        (_set("splits.0.num_samples", 5), "split 'train' claims 5 samples, 4 are listed"),
        (_set("splits.1.num_shards", 2), "split 'validation' claims 2 shards, 1 are listed"),
        (_set("splits.1.name", "train"), "split 'train' is listed 2 times"),
        (_set("splits.1.name", "test"), "split 'validation' of a shard is not listed"),
        (_set("shards.0.num_samples", 2), "train-000000.tar claims 2 samples, 3 are listed"),
        (_set("shards.0.split", "validation"), "train-000000.tar is not named after its split 'validation'"),
        (_set("shards.0.split", "../../x"), "shards.0.split"),
        (_set("shards.0.file", "train-000001.tar"), "the shards of split 'train' must be train-000000.tar and on"),
        (_set("shards.1.file", "train-000002.tar"), "without a gap"),
        (_set("shards.1.file", FIRST), "without a gap"),
        (_set("shards.0.num_bytes", 5), "the index says 5"),
        (_set("shards.0.sha256", "0" * 64), "the index says 0000"),
        (_set("class_pixels.0.pixels", 5), "class_pixels is not the sum"),
        (_set("class_pixels.1.samples", 0), "class_pixels is not the sum"),
        (_set("class_pixels.1.name", "disk"), "class_pixels is not the sum"),
        (lambda index: index["class_pixels"].pop(), "class_pixels is not the sum"),
        (_set("classes.1.name", "disk"), "JSON says class 'disc', the index calls id 1 'disk'"),
        (lambda index: index["classes"].pop(), "the mask has ids 3, which are no classes"),
        (_set("samples.0.key", "s.000"), "a key must be"),
        (_set("samples.0.key", "s001"), "s001: the key occurs 2 times"),
        (_set("samples.0.key", "s0009"), "s0009: is in the index but not in the shard"),
        (_set("samples.0.key", "s0009"), "s000: is in the shard but not in the index"),
        (_set("samples.0.shard", 1), "must lie in shard order"),
        (_set("samples.5.shard", 7), "samples name shard 7, there are 3"),
        (_set("samples.0.class_id", 3), "s000: JSON says class_id 1, the index says 3"),
        (_set("samples.0.class_id", 9), "s000: class_id 9 is not a class"),
        (_set("samples.0.pixels.0.1", 5), "s000: the mask has pixels"),
        (_set("samples.0.pixels.0.1", 0), "must be sorted by id"),
        (_set("samples.0.pixels.0.0", 200), "must be sorted by id"),
        (lambda index: index["samples"][0]["pixels"].reverse(), "must be sorted by id"),
        (lambda index: index["samples"].reverse(), "must lie in shard order"),
        (lambda index: index["samples"].pop(), "s005: is in the shard but not in the index"),
        (lambda index: index["shards"].pop(), "validation-000000.tar: is not in the index"),
    ],
)
def test_lies_in_the_index_are_found(made: Any, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    index = made.index()
    change(index)
    made.write_index(index)
    assert message in _what(made.folder)


def _jpeg(**options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 10)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def _png(mode: str) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (12, 10)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("member", "data", "message"),
    [
        ("s001.jpg", b"", "s001.jpg: not a JPEG"),
        ("s001.jpg", _jpeg()[:200], "s001.jpg: "),
        ("s001.jpg", _jpeg(subsampling=2), "must be JPEG 4:4:4"),
        ("s001.jpg", _png("RGB"), "s001.jpg: not a JPEG"),
        ("s001.png", b"", "s001.png: not a PNG"),
        ("s001.png", _png("P"), "s001.png: must be an 8-bit L PNG"),
        ("s001.png", _png("L")[:50], "s001.png: the PNG is cut short or damaged, in chunk b'IDAT'"),
        ("s001.png", png_bytes(np.full((10, 12), 9, dtype=np.uint8)), "the mask has ids 9, which are no classes"),
        ("s001.png", png_bytes(np.zeros((10, 12), dtype=np.uint8)), "the mask has pixels [(0, 120)], the index says"),
        ("s001.png", _png("L")[:-12], "s001.png: the PNG is cut short"),
        ("s001.png", _png("L") + b"x", "s001.png: 1 bytes follow the end of the PNG"),
        ("s001.jpg", _jpeg()[:-2], "s001.jpg: the JPEG does not end with its end mark"),
        ("s001.conf.png", _png("RGB"), "s001.conf.png: must be an 8-bit L PNG"),
        ("s001.conf.png", png_bytes(np.zeros((12, 10), dtype=np.uint8)), "differ in size: 10 x 12, 12 x 10"),
        ("s001.json", b"{", "s001.json: cannot be read as JSON"),
        ("s001.json", b"[]", "must be one JSON object"),
        ("s001.json", b"\xff", "cannot be read as JSON"),
    ],
)
def test_broken_members_are_named(made: Any, member: str, data: bytes, message: str) -> None:
    made.replace(member, data)
    problems = verify(made.folder)
    assert {(problem.shard, problem.key) for problem in problems} == {(FIRST, "s001")}
    assert message in _what(made.folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"guidance": 0.5', '"guidance": 1', "must be a finite number with a fraction"),
        ('"guidance": 0.5', '"guidance": 1e-7', "is not canonical"),
        ('"guidance": 0.5', '"guidance": null', "must be a finite number"),
        ('"steps": 3', '"steps":  3', "is not canonical"),
        ('"prompt": "text"', '"prompt": "\\u0074ext"', "is not canonical"),
        ('"prompt": "text"', '"prompt": "\\ud800"', "'prompt' must be a text"),
        ('"prompt": "text", ', "", "missing: ['prompt']"),
        ('"key": "s001"', '"key": "s002"', "JSON says key 's002'"),
        ('"split": "train"', '"split": "validation"', "JSON says split 'validation'"),
        ('"class_id": 3', '"class_id": 1', "JSON says class 'star', the index calls id 1 'disc'"),
        ('"class_id": 3', '"class_id": 77', "JSON says class_id 77, which is not a class"),
        ('"height_px": 10', '"height_px": 11', "differ in size: 10 x 12, 11 x 12"),
        ('"seed": 3', '"seed": 9223372036854775808', "'seed' must be a whole number of 64 bits"),
        ('"attributes": [', '"attributes": ["", ', "'attributes' must be a list of texts that are not empty"),
    ],
)
def test_json_that_breaks_a_rule(made: Any, old: str, new: str, message: str) -> None:
    text = dict(made.members[FIRST])["s001.json"].decode()
    assert old in text
    made.replace("s001.json", text.replace(old, new).encode())
    assert message in _what(made.folder)


def test_every_other_order_of_members_is_found(made: Any) -> None:
    members = made.members["train-000001.tar"]
    for order in itertools.permutations(members):
        made.rewrite("train-000001.tar", list(order))
        expected = "" if list(order) == members else "must have the members jpg, png, conf.png, json in this order"
        assert expected in _what(made.folder) and bool(expected) == bool(verify(made.folder))


def test_members_that_are_missing_or_too_many(made: Any) -> None:
    members = made.members[FIRST]
    for changed in [
        *(members[:i] + members[i + 1 :] for i in range(12)),
        *([*members[:i], ("s001.txt", b""), *members[i:]] for i in range(13)),
    ]:
        made.rewrite(FIRST, changed)
        assert "must have the members" in _what(made.folder)


def test_samples_in_another_order_apart_or_twice(made: Any) -> None:
    members = made.members[FIRST]
    made.rewrite(FIRST, members[4:8] + members[:4] + members[8:])
    assert "the samples lie in another order than in the index" in _what(made.folder)
    made.rewrite(FIRST, members[:2] + members[4:] + members[2:4])
    assert "s000: its members do not lie side by side" in _what(made.folder)
    made.rewrite(FIRST, members + members[:4])
    assert "s000: its members do not lie side by side, or the key occurs twice" in _what(made.folder)
    made.rewrite(FIRST, [])
    assert [p.key for p in verify(made.folder)] == ["s000", "s001", "s002"]


@pytest.mark.parametrize(
    ("place", "byte"), [(100, b"0000600\0"), (108, b"0001750\0"), (136, b"00000000001\0"), (265, b"root")]
)
def test_headers_that_make_tars_differ_from_run_to_run(made: Any, place: int, byte: bytes) -> None:
    data = bytearray((made.folder / FIRST).read_bytes())
    data[place : place + len(byte)] = byte
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    (made.folder / FIRST).write_bytes(bytes(data))
    made.reseal()
    assert [(p.shard, p.key) for p in verify(made.folder)] == [(FIRST, "s000")]
    assert "s000.jpg: tar header or padding is not canonical" in _what(made.folder)


def test_hidden_bytes_are_found(made: Any) -> None:
    """In the padding of a member, and after the end mark."""
    data = (made.folder / FIRST).read_bytes()
    first = dict(made.members[FIRST])["s000.jpg"]
    at = 512 + len(first)
    (made.folder / FIRST).write_bytes(data[:at] + b"hidden" + data[at + 6 :])
    made.reseal()
    assert len(padding(len(first))) >= 6 and "padding is not canonical" in _what(made.folder)
    (made.folder / FIRST).write_bytes(data[:-6] + b"hidden")
    made.reseal()
    assert "does not end with two zero blocks" in _what(made.folder)
    (made.folder / FIRST).write_bytes(data + member_header("s9.jpg", 0) + bytes(10240 - 512))
    made.reseal()
    assert "does not end with two zero blocks" in _what(made.folder)


def test_a_tar_of_another_kind(made: Any) -> None:
    for content in (b"", b"PK\x03\x04" * 999, bytes(10239), b"\x1f\x8b" + bytes(600)):
        (made.folder / FIRST).write_bytes(content)
        made.reseal()
        assert any(p.shard == FIRST for p in verify(made.folder))


def test_many_members_of_one_key_are_not_kept(made: Any) -> None:
    made.rewrite("train-000001.tar", [("s003.jpg", b"x")] * 5000)
    problems = verify(made.folder)
    assert [p.key for p in problems] == ["s003"] and problems[0].what.count("jpg") < 10


def test_problems_read_well() -> None:
    assert str(Problem("train-000000.tar", "s1", "is broken")) == "train-000000.tar: s1: is broken"
    assert str(Problem("index.json", "", "is broken")) == "index.json: is broken"


@pytest.mark.parametrize("workers", [1, 2])
def test_fields_that_differ_from_shard_to_shard_are_found(made: Any, workers: int) -> None:
    index = made.index()
    made.write_index({**index, "version": 2})
    members = [
        (name, data.replace(b'"split"', b'"sky": "blue", "split"') if name.endswith(".json") else data)
        for name, data in made.members["train-000001.tar"]
    ]
    made.rewrite("train-000001.tar", members)
    (problem,) = verify(made.folder, workers)
    assert (problem.shard, problem.key) == ("train-000001.tar", "")
    assert problem.what == "every sample has the same fields, those of train-000000.tar and these differ in sky"


def test_fields_that_differ_from_sample_to_sample_are_found(made: Any) -> None:
    text = dict(made.members[FIRST])["s001.json"]
    made.replace("s001.json", text.replace(b'"split"', b'"sky": "blue", "split"'))
    assert "every sample has the same fields, the first one and this differ in sky" in _what(made.folder)


@pytest.mark.parametrize(
    "values", [("1", '"blue"'), ("1", "0.5"), ('["a"]', '"a"'), (None, '"blue"'), ('"blue"', None)]
)
def test_fields_that_no_version_names_have_one_type(made: Any, values: tuple[str | None, str | None]) -> None:
    index = made.index()
    made.write_index({**index, "version": 2})
    (made.folder / "train-000000.parquet").write_bytes(b"a table, so that its samples are compared with it")
    members = made.members[FIRST]
    for key, value in zip(("s000", "s001"), values, strict=True):
        more = b'"sky": %s, "split"' % value.encode() if value else b'"split"'
        members = [(n, data.replace(b'"split"', more) if n == f"{key}.json" else data) for n, data in members]
    made.rewrite(FIRST, members)
    assert "every sample has the same fields, the first one and this differ in sky" in _what(made.folder)
